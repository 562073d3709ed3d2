// The official OpenAI SDK for Node, Responses.

import OpenAI from "openai";
import { BASE, KEY, SPEC, many, play, raises, said, same, say } from "./session.mjs";

const client = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: KEY, maxRetries: 0, timeout: 20_000 });
const { responses } = client;
const tools = SPEC.tools.map(({ name, description, schema }) => ({
  type: "function",
  name,
  description,
  parameters: schema,
  strict: false,
}));
const ask = (scenario) => [{ role: "user", content: say(scenario) }];

function talk(model, scenario) {
  const input = [
    { role: "user", content: 'Remember 17 & "ä".' },
    { role: "assistant", content: "Noted: 17." },
    ...ask(scenario),
  ];
  return { model, input, instructions: SPEC.system, temperature: 0.5, max_output_tokens: 300, store: false };
}

function check(model, whole) {
  const [total, cached, out] = SPEC.usage;
  same("text", whole.output_text, said("says", model));
  same("status", whole.status, "completed");
  const u = whole.usage;
  same("usage", [u.input_tokens, u.output_tokens, u.total_tokens], [total, out, total + out]);
  same("cached", u.input_tokens_details.cached_tokens, cached);
}

/** An item as it was received: the SDK's stream helper adds members that the API does not take. */
function plain({ parsed_arguments, ...item }) {
  const content = item.content?.map(({ parsed, ...part }) => part);
  return content ? { ...item, content } : item;
}

function history(scenario, whole) {
  const calls = whole.output.filter((item) => item.type === "function_call");
  same("calls", calls.map((c) => [c.name, JSON.parse(c.arguments)]), SPEC.calls);
  same("text", whole.output_text, "Let me look. ");
  same("ids", new Set(calls.map((c) => c.call_id)).size, 2);
  const result = (c, i) => ({ type: "function_call_output", call_id: c.call_id, output: SPEC.results[i] });
  return [...ask(scenario), ...whole.output.map(plain), ...calls.map(result)];
}

await play({
  async chat(model) {
    check(model, await responses.create(talk(model, "chat")));
  },
  async stream(model) {
    const stream = responses.stream(talk(model, "stream"));
    const seen = [];
    for await (const event of stream) seen.push(event);
    same("numbers", seen.map((e) => e.sequence_number), [...seen.keys()]);
    same("first and last", [seen[0].type, seen.at(-1).type], ["response.created", "response.completed"]);
    const pieces = seen.filter((e) => e.type === "response.output_text.delta").map((e) => e.delta);
    many("text", pieces, 4);
    same("pieces", pieces.join(""), said("says", model));
    check(model, await stream.finalResponse());
  },
  async tools(model) {
    const asked = { model, tools, store: false };
    const whole = await responses.create({ ...asked, input: ask("tools"), tool_choice: "required" });
    const answer = await responses.create({ ...asked, input: history("tools", whole) });
    same("answer", answer.output_text, said("reads", model));
  },
  async tools_stream(model) {
    const asked = { model, tools, store: false };
    const stream = responses.stream({ ...asked, input: ask("tools_stream"), tool_choice: "required" });
    const fragments = [];
    for await (const event of stream) {
      if (event.type === "response.function_call_arguments.delta") fragments.push(event.delta);
    }
    // Gemini sends the arguments of a call whole.
    many("arguments", fragments, model === "gemini" ? 2 : 10);
    const input = history("tools_stream", await stream.finalResponse());
    const answer = await responses.stream({ ...asked, input }).finalResponse();
    same("answer", answer.output_text, said("reads", model));
  },
  async vision(model) {
    const image = { type: "input_image", image_url: `data:image/png;base64,${SPEC.image}`, detail: "auto" };
    const content = [{ type: "input_text", text: say("vision") }, image];
    const whole = await responses.create({ model, input: [{ role: "user", content }] });
    same("text", whole.output_text, said("sees", model));
  },
  async schema(model) {
    const format = { type: "json_schema", name: "city", strict: true, schema: SPEC.schema };
    const whole = await responses.create({ model, input: ask("schema"), text: { format } });
    same("text", JSON.parse(whole.output_text), JSON.parse(said("formed", model)));
  },
  async errors(model) {
    const no = said("refuses", model);
    const fail = (scenario, name = model) => () => responses.create({ model: name, input: say(scenario) });
    for (const [status, kind] of [
      [400, OpenAI.BadRequestError],
      [429, OpenAI.RateLimitError],
      [500, OpenAI.InternalServerError],
    ]) {
      same("status", (await raises(kind, no, fail(`fail_${status}`))).status, status);
    }
    same("overload", (await raises(OpenAI.InternalServerError, no, fail("fail_529"))).status, 503);
    // What a provider says about the gateway's own credentials is not told.
    const error = await raises(OpenAI.InternalServerError, "", fail("fail_401", `${model}-barred`));
    same("secret", error.message.includes(no), false);
    const unknown = () => responses.create({ model: "no-such-model", input: say("chat") });
    await raises(OpenAI.NotFoundError, "no-such-model", unknown);
  },
  async broken(model) {
    for (const [scenario, words] of [
      ["cut", ""],
      ["break", said("refuses", model)],
    ]) {
      let text = "";
      const ends = [];
      try {
        const stream = await responses.create({ model, input: say(scenario), stream: true });
        for await (const event of stream) {
          if (event.type === "response.output_text.delta") text += event.delta;
          if (event.type === "error") ends.push(event.message);
          if (event.type === "response.failed") ends.push(event.response.error.message);
          same("a made-up end", event.type === "response.completed", false);
        }
      } catch (error) {
        // An event named `error` is thrown by this SDK, a failed response handed on.
        if (!(error instanceof OpenAI.APIError)) throw error;
        ends.push(error.message);
      }
      same("text before", said("says", model).startsWith(text) && text.length > 5, true);
      many("errors", ends, 1);
      same("words", ends[0].includes(words), true);
    }
  },
  async cancel(model) {
    const stream = await responses.create({ model, input: say("cancel"), stream: true });
    for await (const event of stream) if (event.type === "response.output_text.delta") break;
  },
});
