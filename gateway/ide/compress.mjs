// SPDX-License-Identifier: Apache-2.0
// Puts FILE.br and FILE.gz beside each file of a folder that gets smaller by it: compress.mjs DIR
import {readdirSync, readFileSync, writeFileSync} from "node:fs";
import {brotliCompress, constants, gzipSync} from "node:zlib";
import {promisify} from "node:util";
import {join} from "node:path";

const brotli = promisify(brotliCompress);

async function compress(file) {
  const data = readFileSync(file);
  const params = {[constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: data.length};
  const small = await brotli(data, {params});
  if (small.length < data.length * 0.95) writeFileSync(file + ".br", small);
  const older = gzipSync(data, {level: 9});
  if (older.length < data.length * 0.95) writeFileSync(file + ".gz", older);
}

const dir = process.argv[2];
const files = readdirSync(dir, {recursive: true, withFileTypes: true})
  .filter((e) => e.isFile() && /\.(html|js|css|svg|ttf|json|txt)$/.test(e.name))
  .map((e) => join(e.parentPath, e.name));
await Promise.all(files.map(compress));
