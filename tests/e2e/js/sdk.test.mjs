// Run by ../test_js_sdk.py with E2B_* in the environment; one process, one sandbox.
import assert from 'node:assert/strict'
import diagnostics from 'node:diagnostics_channel'
import { after, before, test } from 'node:test'
import { Sandbox } from '@e2b/code-interpreter'

let sandbox
const spoken = new Map() // host -> what was agreed with it on each connection, the SDK's own and node's
diagnostics.subscribe('undici:client:connected', ({ connectParams, socket }) => {
  const host = connectParams.hostname
  spoken.set(host, (spoken.get(host) ?? new Set()).add(socket.alpnProtocol || 'http/1.1'))
})

before(async () => {
  sandbox = await Sandbox.create({ timeoutMs: 120_000, metadata: { from: 'js' } })
})
after(async () => {
  await sandbox.kill()
})

test('run_code streams and returns the result', async () => {
  const out = []
  const execution = await sandbox.runCode("print('one')\n40 + 2", { onStdout: (m) => out.push(m.line) })
  assert.equal(out.join(''), 'one\n')
  assert.equal(execution.text, '42')
})

test('an exception is an error with name, value and traceback', async () => {
  const { error } = await sandbox.runCode('1/0')
  assert.equal(error.name, 'ZeroDivisionError')
  assert.equal(error.value, 'division by zero')
})

test('a bar chart comes back as data', async () => {
  const code = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2]); plt.title('T')\nplt.show()"
  const [result] = (await sandbox.runCode(code)).results
  assert.equal(result.chart.type, 'bar')
  assert.deepEqual(result.chart.elements.map((e) => [e.label, e.value]), [['a', 1], ['b', 2]])
  assert.ok(result.png)
})

test('files and commands', async () => {
  await sandbox.files.write('js/a.txt', 'grüße')
  assert.equal(await sandbox.files.read('js/a.txt'), 'grüße')
  assert.deepEqual((await sandbox.files.list('js')).map((e) => e.name), ['a.txt'])
  assert.equal((await sandbox.commands.run('whoami')).stdout, 'user\n')
  await assert.rejects(sandbox.commands.run('exit 3'), (e) => e.exitCode === 3)
  const handle = await sandbox.commands.run('sleep 300', { background: true })
  assert.ok(await handle.kill())
})

test('list, info, timeout, connect', async () => {
  const page = await Sandbox.list({ query: { metadata: { from: 'js' } } }).nextItems()
  assert.deepEqual(page.map((e) => e.sandboxId), [sandbox.sandboxId])
  await sandbox.setTimeout(60_000)
  assert.equal((await sandbox.getInfo()).name, 'code-interpreter-v1')
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.equal((await again.commands.run('echo found')).stdout, 'found\n')
  assert.ok(sandbox.getHost(3000).startsWith(`3000-${sandbox.sandboxId}.`))
})

test('a port is reached by its public name', async () => {
  const scheme = process.env.E2B_API_URL ? 'http' : 'https'
  await sandbox.commands.run('mkdir -p www && echo hello > www/index.html')
  await sandbox.commands.run('python3 -m http.server 3000 --directory www', { background: true })
  let answer
  do {
    answer = await fetch(`${scheme}://${sandbox.getHost(3000)}/`)
  } while (answer.status === 502)
  assert.equal(await answer.text(), 'hello\n')
})

test('an unknown template is told by name', async () => {
  await assert.rejects(Sandbox.create('no-such-template'), /no-such-template/)
})

test('by the domain it speaks HTTP/2 to the API and to the daemon', { skip: !!process.env.E2B_API_URL }, () => {
  const [domain] = process.env.E2B_DOMAIN.split(':')
  assert.deepEqual([...spoken.get(`api.${domain}`)], ['h2'])
  assert.ok(spoken.get(`49983-${sandbox.sandboxId}.${domain}`).has('h2'), spoken)
})
