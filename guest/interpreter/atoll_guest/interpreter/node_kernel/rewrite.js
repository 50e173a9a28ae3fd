"use strict";
// Source text → source text that V8's console mode takes. Pure.
//
// A console knows no static `import` and no `export`, and code that comes from the inspector has no loader for
// `import()`. So static imports become dynamic ones, and dynamic ones call IMPORT. Patterns are looked for in a copy in
// which strings, comments, templates and regular expressions are blanked, so that text stays text.

const IMPORT = "globalThis[Symbol.for('atoll.import')]";
const BLANK = "\u0001";
const REGEX_MAY_FOLLOW = /(?:^|[=(,[{};:!&|?+\-*%<>~^\n]|\b(?:return|typeof|case|in|of|await|yield|void|delete|throw))\s*$/;

const STATIC = /(?<=^|[;\n])([ \t]*)import\s*(?:(?:([\w$]+)\s*,?\s*)?(?:\*\s*as\s+([\w$]+)|\{([^}]*)\})?\s*\bfrom\s*)?(["']\u0001*["'])[ \t]*;?/g;
const DYNAMIC = /(?<![\w$.])import(?=\s*\()/g;
const EXPORT = /(?<=^|[;\n])([ \t]*)export\s+(?:default\s+(?=(?:async\s+)?function\s*\*?\s*[\w$]|class\s+[\w$])|(?=(?:const|let|var|function|async|class)\b))/g;

/** `code` with everything that is not program text blanked; quotes stay, and every position. */
function mask(code) {
  let out = "";
  let index = 0;
  const blank = (end) => {
    out += code.slice(index, end).replace(/[^\n]/g, BLANK);
    index = end;
  };
  while (index < code.length) {
    const two = code.slice(index, index + 2);
    const one = code[index];
    if (two === "//") blank(endOf(code, "\n", index));
    else if (two === "/*") blank(Math.min(endOf(code, "*/", index + 2) + 2, code.length));
    else if (one === '"' || one === "'") {
      const end = closing(code, index, one);
      out += one;
      index += 1;
      blank(end);
      if (index < code.length) out += code[index++];
    } else if (one === "`") blank(Math.min(closing(code, index, one) + 1, code.length));
    else if (one === "/" && REGEX_MAY_FOLLOW.test(out)) blank(Math.min(closing(code, index, one) + 1, code.length));
    else {
      out += one;
      index += 1;
    }
  }
  return out;
}

function endOf(code, text, from) {
  const found = code.indexOf(text, from);
  return found < 0 ? code.length : found;
}

/** Where the literal that begins at `start` is closed; escapes are skipped, and classes in a regular expression. */
function closing(code, start, quote) {
  let inClass = false;
  for (let index = start + 1; index < code.length; index += 1) {
    const char = code[index];
    if (char === "\\") index += 1;
    else if (quote === "/" && char === "[") inClass = true;
    else if (quote === "/" && char === "]") inClass = false;
    else if (char === quote && !inClass) return index;
    else if (char === "\n" && quote !== "`") return index;
  }
  return code.length;
}

/** Replace each match of `pattern` in the masked text; `render` gets the match and the original text of it. */
function replace(code, pattern, render) {
  let out = "";
  let position = 0;
  for (const match of mask(code).matchAll(pattern)) {
    const original = code.slice(match.index, match.index + match[0].length);
    out += code.slice(position, match.index) + render(match, original);
    position = match.index + match[0].length;
  }
  return out + code.slice(position);
}

function rewriteModules(code) {
  if (!/\b(?:import|export)\b/.test(code)) return code;
  const exported = replace(code, EXPORT, (match) => match[1]);
  const dynamic = replace(exported, DYNAMIC, () => IMPORT);
  return replace(dynamic, STATIC, renderImport);
}

function renderImport(match, original) {
  const [, indent, byDefault, namespace, names, quoted] = match;
  const from = original.slice(original.lastIndexOf(quoted[0], original.lastIndexOf(quoted[0]) - 1));
  const module = `await ${IMPORT}(${from.replace(/[ \t]*;?$/, "")})`;
  const bindings = (names || "").split(",").map((name) => name.trim()).filter((name) => name && !/^type\s/.test(name));
  const pattern = bindings.map((name) => name.replace(/\s+as\s+/, ": "));
  if (byDefault) pattern.unshift(`default: ${byDefault}`);
  const parts = [];
  if (pattern.length || names !== undefined) parts.push(`const { ${pattern.join(", ")} } = ${module};`);
  if (namespace) parts.push(`const ${namespace} = ${module};`);
  return indent + (parts.join(" ") || `${module};`);
}

/** TypeScript's types go; enums and the like are translated. Throws a SyntaxError. */
function stripTypes(code, amaro) {
  const options = { mode: "transform", sourceMap: false, transform: { verbatimModuleSyntax: true } };
  try {
    return amaro.transformSync(code, options).code;
  } catch (error) {
    throw new SyntaxError(String((error && error.message) || error));
  }
}

module.exports = { mask, rewriteModules, stripTypes };
