// The knowledge bases that this reader reaches, loaded once for all pages.

import { api, must, type Kb } from "../api/client";
import { settings } from "./settings.svelte";

class Bases {
  list = $state.raw<Kb[]>();
  trouble = $state<unknown>();

  /** The one in use: the last chosen, else the first. */
  get current(): string | undefined {
    const names = this.list?.map((kb) => kb.name) ?? [];
    return names.includes(settings.kb) ? settings.kb : names[0];
  }

  async load(): Promise<void> {
    this.trouble = undefined;
    try {
      this.list = (await must(api.GET("/api/v1/kbs"))).kbs;
    } catch (error) {
      this.trouble = error;
    }
  }
}

export const bases = new Bases();
