// What `npm run build` makes: dist/ with the page, everything compressed beside itself, nothing from elsewhere.
import { cpSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

/** Smaller files travel in one packet anyway. */
const COMPRESS_BYTES_MIN = 1024;
const COMPRESSIBLE = /\.(css|html|js|mjs|svg|json)$/;

function files(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

/** Character maps that PDF files without embedded Chinese fonts need, and a `.gz` beside each text. */
function finish(): Plugin {
  return {
    name: "finish",
    apply: "build",
    closeBundle() {
      cpSync("node_modules/pdfjs-dist/cmaps", "dist/ui/cmaps", { recursive: true });
      for (const path of files("dist").filter((path) => COMPRESSIBLE.test(path))) {
        const bytes = readFileSync(path);
        if (bytes.length >= COMPRESS_BYTES_MIN) writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
      }
      // The folder stays in the tree, what is built into it does not.
      writeFileSync("dist/.gitignore", "*\n!.gitignore\n");
    },
  };
}

export default defineConfig({
  plugins: [svelte(), finish()],
  build: {
    assetsDir: "ui",
    // Everything is a file of its own: the content policy knows no `data:` addresses.
    assetsInlineLimit: 0,
    target: "es2023",
    // The first that know `light-dark()`.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // The licences of what is built in travel with it.
    license: { fileName: "ui/licenses.md" },
    // pdf.js is one large part, loaded when a PDF is opened.
    chunkSizeWarningLimit: 1500,
  },
  server: {
    proxy: { "/api": process.env.RWKV_RAG_URL ?? "http://127.0.0.1:8780" },
  },
});
