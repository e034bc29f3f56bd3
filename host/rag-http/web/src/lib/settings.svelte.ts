// What this browser remembers: language, colours, the knowledge base last used, how answers are asked for.

export type Language = "zh" | "en";
export type Theme = "auto" | "light" | "dark";

/** How an answer is asked for; what is missing is the knowledge base's own setting. */
export type Asking = { passages?: number; temperature?: number; top_p?: number; answer_tokens_max?: number; retriever?: string };

/** Which tuning answers are asked to be written with: `state:NAME`, `adapter:NAME`, `base` for the model as it is. */
export type Tuning = { variant: string; beside: boolean };

function stored<T>(name: string, otherwise: T): T {
  try {
    const text = localStorage.getItem(`rwkv-rag.${name}`);
    return text === null ? otherwise : (JSON.parse(text) as T);
  } catch {
    return otherwise;
  }
}

function store(name: string, value: unknown): void {
  try {
    localStorage.setItem(`rwkv-rag.${name}`, JSON.stringify(value));
  } catch {
    // A browser without storage forgets at the next visit, no more.
  }
}

class Settings {
  language = $state<Language>(stored("language", navigator.language.startsWith("zh") ? "zh" : "en"));
  theme = $state<Theme>(stored("theme", "auto"));
  kb = $state<string>(stored("kb", ""));
  talks = $state<boolean>(stored("talks", true));
  asking = $state<Asking>(stored("asking", {}));
  tuning = $state<Tuning>(stored("tuning", { variant: "", beside: false }));

  constructor() {
    $effect.root(() => {
      $effect(() => {
        store("language", this.language);
        document.documentElement.lang = this.language === "zh" ? "zh-CN" : "en";
      });
      $effect(() => {
        store("theme", this.theme);
        document.documentElement.dataset.theme = this.theme;
      });
      $effect(() => store("kb", this.kb));
      $effect(() => store("talks", this.talks));
      $effect(() => store("asking", this.asking));
      $effect(() => store("tuning", this.tuning));
    });
  }
}

export const settings = new Settings();
