// Run by ../test_js_sdk.py with E2B_* in the environment; one process, one sandbox.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Sandbox } from '@e2b/code-interpreter'

let sandbox

before(async () => {
  sandbox = await Sandbox.create({ timeoutMs: 240_000, envs: { OF_CREATE: 'here' } })
})
after(async () => {
  await sandbox.kill()
})

test('outputs, results and errors reach their callbacks in order', async () => {
  const seen = []
  const see = (kind) => (value) => seen.push([kind, value.line ?? value.text ?? value.name])
  const code = "import sys\nprint('o')\nprint('e', file=sys.stderr)\ndisplay(1)\n1/0"
  const execution = await sandbox.runCode(code, {
    onStdout: see('out'), onStderr: see('err'), onResult: see('result'), onError: see('error'),
  })
  assert.deepEqual(seen, [['out', 'o\n'], ['err', 'e\n'], ['result', '1'], ['error', 'ZeroDivisionError']])
  assert.equal(execution.error.value, 'division by zero')
  assert.equal(execution.executionCount, 1)
})

test('contexts keep their state apart, restart and go', async () => {
  const context = await sandbox.createCodeContext({ language: 'python', cwd: '/tmp' })
  await sandbox.runCode('x = 5', { context })
  assert.equal((await sandbox.runCode('import os; (x, os.getcwd())', { context })).text, "(5, '/tmp')")
  assert.equal((await sandbox.runCode('x')).error.name, 'NameError')
  assert.ok((await sandbox.listCodeContexts()).some((it) => it.id === context.id))
  await sandbox.restartCodeContext(context)
  assert.equal((await sandbox.runCode('x', { context })).error.name, 'NameError')
  await sandbox.removeCodeContext(context)
  await assert.rejects(sandbox.runCode('1', { context }))
})

test('a timeout interrupts and the context stays usable', async () => {
  await sandbox.runCode('kept = 7')
  await assert.rejects(sandbox.runCode('while True: pass', { timeoutMs: 1000 }))
  assert.equal((await sandbox.runCode('kept')).text, '7')
})

test('variables of create and of one execution', async () => {
  const code = "import os; (os.environ.get('OF_CREATE'), os.environ.get('V'))"
  assert.equal((await sandbox.runCode(code, { envs: { V: '1' } })).text, "('here', '1')")
  assert.equal((await sandbox.runCode(code)).text, "('here', None)")
})

test('results have their formats, charts their data', async () => {
  const frame = "import pandas as pd; pd.DataFrame({'a': [1, 2]})"
  const [table] = (await sandbox.runCode(frame)).results
  assert.deepEqual(table.data, { a: [1, 2] })
  assert.ok(table.html && table.isMainResult)
  const [pie] = (await sandbox.runCode("import matplotlib.pyplot as plt; plt.pie([1, 3], labels=['a', 'b']); plt.show()")).results
  assert.equal(pie.chart.type, 'pie')
  assert.deepEqual(pie.chart.elements.map((it) => [it.label, it.angle]), [['a', 90], ['b', 270]])
  const line = (await sandbox.runCode('import plotly.express as px; px.line(x=[1, 2], y=[3, 4])')).results.at(-1)
  assert.equal(line.chart.type, 'line')
  assert.deepEqual(line.chart.elements[0].points, [[1, 3], [2, 4]])
})

test('a kernel that dies is told, and the next execution works', async () => {
  assert.equal((await sandbox.runCode('import os; os._exit(1)')).error.name, 'KernelDied')
  assert.equal((await sandbox.runCode('1 + 1')).text, '2')
})
