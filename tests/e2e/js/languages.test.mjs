// Run by ../test_interpreter_sdks.py: TABLE is the file of its rows, SANDBOX the id of a running sandbox.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { test } from 'node:test'
import { Sandbox } from '@e2b/code-interpreter'

const { rows, rich } = JSON.parse(fs.readFileSync(process.env.TABLE, 'utf8'))
const sandbox = await Sandbox.connect(process.env.SANDBOX)

for (const row of rows) {
  const run = (code, options) => sandbox.runCode(code, { language: row.language, timeoutMs: 100_000, ...options })

  test(row.language, async () => {
    const seen = []
    const hello = await run(row.hello, { onStdout: (message) => seen.push(message.line) })
    assert.equal(hello.error, undefined)
    assert.equal(seen.join(''), 'hällo 🎈\n')
    if (row.two) assert.equal((await run(row.two)).text.replace('[1] ', ''), '2')
    const { error } = await run(row.throw)
    assert.equal(error.name, row.error[0])
    assert.ok(error.value.includes(row.error[1]))
    for (const [name, code] of Object.entries(row.rich)) {
      const [result] = (await run(code)).results
      if (name === 'png') assert.ok(result.png.startsWith(rich.png))
      else assert.deepEqual(result[name], rich[name])
    }
    assert.equal((await run(row.variable, { envs: { V: 'é' } })).logs.stdout.join(''), 'é\n')
  })
}
