// What the sessions in Node share: the script from the environment, one JSON line on stdout for each scenario.

import { deepStrictEqual } from "node:assert";

export const { RUN, BASE_URL: BASE, CLIENT_KEY: KEY } = process.env;
export const SPEC = JSON.parse(process.env.SPEC);
export const STOP = ["###", "Ende"];
const MODELS = process.env.MODELS.split(",");

/** The user's text, by which the scripted provider knows what to do. */
export const say = (scenario) => `scenario:${scenario} run:${RUN} please`;

/** What the scripted provider of this model says. */
export const said = (name, model) => SPEC[name].replaceAll("{model}", model);

const show = (value) => JSON.stringify(value) ?? String(value);

export function same(what, got, want) {
  try {
    deepStrictEqual(got, want);
  } catch {
    throw new Error(`${what}: got ${show(got)}, want ${show(want)}`);
  }
}

export function many(what, pieces, least) {
  if (pieces.length < least) throw new Error(`${what}: ${pieces.length} pieces, want ${least}: ${show(pieces)}`);
}

/** Checks that a call fails with this class and says these words. */
export async function raises(kind, words, call) {
  let got;
  try {
    got = await call();
  } catch (error) {
    if (!(error instanceof kind) || !error.message.includes(words)) {
      throw new Error(`want ${kind.name} with ${show(words)}, got ${error.constructor.name}: ${error.message}`);
    }
    return error;
  }
  throw new Error(`no error but ${show(got)}`);
}

/** Every scenario with every model. */
export async function play(scenarios) {
  for (const model of MODELS) {
    for (const [scenario, run] of Object.entries(scenarios)) {
      let error = null;
      try {
        await run(model);
      } catch (fault) {
        const at = (fault.stack ?? "").split("\n").find((line) => line.includes("tests/it/sdk") && !line.includes("session.mjs"));
        error = `${fault.constructor.name}: ${fault.message} [${(at ?? "").trim().split("/").pop()}]`;
      }
      console.log(JSON.stringify({ model, scenario, error }));
    }
  }
}
