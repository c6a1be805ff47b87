// SPDX-License-Identifier: Apache-2.0
// Makes a Node that was started as `node main.js` wait for its program (shim/init/park.c): it is required first, by
// NODE_OPTIONS. When it returns, nothing of it is left, and Node goes on as ever. In a worker it does nothing.
// It begins in a folder of its own: where Node requires a first module it looks for a package.json, and would
// remember that the program's had none.
'use strict';
delete require.cache[__filename];
for (const key of Object.keys(module.constructor._pathCache))
  if (module.constructor._pathCache[key] === __filename) delete module.constructor._pathCache[key];
if (process.env.NODE_OPTIONS === `--require=${__filename}`) wait(require('fs'));

function wait(fs) {
  process.chdir('/workspace');
  fs.writeSync(3, 'R');
  const room = Buffer.alloc(65536);
  const read = () => {
    const n = fs.readSync(3, room);
    if (!n) process.reallyExit(0);
    return Buffer.from(room.subarray(0, n));
  };
  let told = read();
  const begin = told.indexOf(0) + 1;
  const [size, count, stdin] = told.toString('latin1', 0, begin - 1).split(' ').map(Number);
  while (told.length < begin + size) told = Buffer.concat([told, read()]);
  fs.closeSync(3);
  Object.defineProperty(process, '_preload_modules', {value: []});
  const words = told.toString('utf8', begin).split('\0');
  words.pop();
  process.argv.push(...words.splice(0, count));
  const env = new Map(words.map((w) => [w.slice(0, w.indexOf('=')), w.slice(w.indexOf('=') + 1)]));
  for (const key of Object.keys(process.env)) if (!env.has(key)) delete process.env[key];
  for (const [key, value] of env) if (process.env[key] !== value) process.env[key] = value;
  if (stdin) return;
  fs.closeSync(0);
  fs.openSync('/dev/null', 'r+');
}
