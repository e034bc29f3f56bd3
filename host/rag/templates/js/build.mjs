// Makes the component: node build.mjs WIT-FOLDER WORLD OUTPUT. `rwkv-rag plugin build` calls it.
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';

const here = dirname(fileURLToPath(import.meta.url));
const [wit, world, output] = process.argv.slice(2);
// The engine drops a byte order mark that begins a text on its way in, and every byte counted after it is wrong: this keeps
// it. It stands on one line with the beginning of the source, so that errors name the source's lines.
const keepMark = `{
  const { decode } = TextDecoder.prototype;
  const whole = new TextDecoder('utf-8', { ignoreBOM: true });
  TextDecoder.prototype.decode = function (...given) {
    return decode.apply(this.encoding === 'utf-8' && !this.fatal ? whole : this, given);
  };
}`;
const source = keepMark.replaceAll('\n', ' ') + (await readFile(resolve(here, 'plugin.js'), 'utf8'));
const { component } = await componentize(source, {
  sourceName: 'plugin.js',
  // Relative paths are not found by the tool's own component.
  witPath: resolve(wit),
  worldName: world,
  // What the sandbox does not have: terminals, clocks and servers. Without them no import of WASI is left.
  disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
});
await writeFile(output, component);
