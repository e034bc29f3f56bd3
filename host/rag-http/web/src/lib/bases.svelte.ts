// The knowledge bases that this reader reaches, loaded once for all pages.

import { api, must, type Kb } from "../api/client";
import { Loaded } from "./loaded.svelte";
import { settings } from "./settings.svelte";

class Bases extends Loaded<Kb[]> {
  constructor() {
    super(async () => (await must(api.GET("/api/v1/kbs"))).kbs);
  }

  get list(): Kb[] | undefined {
    return this.value;
  }

  /** The one in use: the last chosen, else the first. */
  get current(): string | undefined {
    const names = this.list?.map((kb) => kb.name) ?? [];
    return names.includes(settings.kb) ? settings.kb : names[0];
  }
}

export const bases = new Bases();
