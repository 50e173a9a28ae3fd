"use strict";
const assert = require("node:assert");
const { test } = require("node:test");
const { mask, rewriteModules } = require("./rewrite.js");

const IMPORT = "globalThis[Symbol.for('atoll.import')]";
const TABLE = {
  "1 + 1": "1 + 1",
  "import 'x'": `await ${IMPORT}('x');`,
  'import os from "os"; import {join as j, sep} from "node:path"; j()':
    `const { default: os } = await ${IMPORT}("os"); const { join: j, sep } = await ${IMPORT}("node:path"); j()`,
  "import * as fs from 'fs'": `const fs = await ${IMPORT}('fs');`,
  "import d, {a} from 'm'\nfoo()": `const { default: d, a } = await ${IMPORT}('m');\nfoo()`,
  "import {\n a,\n b as c\n} from 'x';\na": `const { a, b: c } = await ${IMPORT}('x');\na`,
  "await import('fs')": `await ${IMPORT}('fs')`,
  "export const x = 1": "const x = 1",
  "export default class A {}": "class A {}",
  "console.log('import(x); import a from b')": "console.log('import(x); import a from b')",
  "`import a from 'b'`": "`import a from 'b'`",
  "/import(a)/.test('x')": "/import(a)/.test('x')",
  "// import a from 'b'\nx.import(1)": "// import a from 'b'\nx.import(1)",
};

for (const [code, expected] of Object.entries(TABLE)) {
  test(`rewrites ${JSON.stringify(code)}`, () => assert.strictEqual(rewriteModules(code), expected));
}

test("the masked copy has the same length and lines", () => {
  for (const code of [...Object.keys(TABLE), "'\\'' + \"\\n", "a / b / c", "`${'`'}`", "/* \n */", "'open\nx"]) {
    assert.strictEqual(mask(code).length, code.length);
    assert.strictEqual(mask(code).split("\n").length, code.split("\n").length);
  }
});
