// Reads the suite's results by its own rules, prints the score by class and what failed.
//
//   node score.mjs CHECKOUT RESULTS.json FLOOR
//
// Exit 0: at least FLOOR required tests passed; 1: fewer did.
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [checkout, resultsFile, floor] = process.argv.slice(2)
const { default: suites } = await import(pathToFileURL(path.join(checkout, 'tests', 'index.mjs')))
const results = JSON.parse(fs.readFileSync(resultsFile, 'utf8'))
const tests = new Map(suites.flatMap(suite => suite.tests).map(test => [test.id, test]))

// A test passes when its result is true and so is every test it depends on: what it rests on does not work otherwise.
const verdicts = new Map()
function why (id) {
  if (!verdicts.has(id)) {
    const result = results[id]
    const broken = (tests.get(id)?.depends_on ?? []).find(other => why(other) !== '')
    const told = Array.isArray(result) ? result.join(': ') : 'not run'
    verdicts.set(id, broken ? `depends on ${broken}` : result === true ? '' : told)
  }
  return verdicts.get(id)
}

const classes = { required: [], optimal: [], check: [] }
for (const test of tests.values()) {
  // The suite's client runs those in browsers only.
  if (!test.browser_only) classes[test.kind ?? 'required'].push(test.id)
}
const passed = {}
for (const [kind, ids] of Object.entries(classes)) {
  passed[kind] = ids.filter(id => why(id) === '').length
  console.log(`${kind === 'check' ? 'behaviour' : kind}: ${passed[kind]}/${ids.length}`)
}
for (const kind of ['required', 'optimal']) {
  for (const id of classes[kind].filter(id => why(id) !== '')) {
    console.log(`failed ${kind}: ${id} (${why(id).slice(0, 120)})`)
  }
}
const others = classes.check.filter(id => why(id) !== '')
console.log(`behaviour not shown: ${others.join(' ')}`)
if (passed.required < Number(floor)) {
  console.error(`conformance: ${passed.required} required tests passed, at least ${floor} must`)
  process.exitCode = 1
}
