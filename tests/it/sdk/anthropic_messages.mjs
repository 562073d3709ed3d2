// The official Anthropic SDK for Node.

import Anthropic from "@anthropic-ai/sdk";
import { BASE, KEY, SPEC, STOP, many, play, raises, said, same, say } from "./session.mjs";

const client = new Anthropic({ baseURL: BASE, apiKey: KEY, maxRetries: 0, timeout: 20_000 });
const tools = SPEC.tools.map(({ name, description, schema }) => ({ name, description, input_schema: schema }));
const ask = (scenario) => [{ role: "user", content: say(scenario) }];
const call = (model, scenario, more) => ({ model, max_tokens: 300, messages: ask(scenario), ...more });

function talk(model, scenario) {
  const messages = [
    { role: "user", content: 'Remember 17 & "ä".' },
    { role: "assistant", content: "Noted: 17." },
    ...ask(scenario),
  ];
  const out = call(model, scenario, { messages, system: SPEC.system, temperature: 0.5 });
  // The Responses API has no stop texts.
  return model === "responses" ? out : { ...out, stop_sequences: STOP };
}

function check(model, whole) {
  const [total, cached, out] = SPEC.usage;
  same("text", whole.content.map((b) => b.text), [said("says", model)]);
  same("kind", [whole.type, whole.role, whole.stop_reason], ["message", "assistant", "end_turn"]);
  const u = whole.usage;
  same("usage", [u.input_tokens, u.cache_read_input_tokens, u.output_tokens], [total - cached, cached, out]);
}

function history(scenario, whole) {
  const uses = whole.content.filter((b) => b.type === "tool_use");
  same("calls", uses.map((b) => [b.name, b.input]), SPEC.calls);
  same("text", whole.content.filter((b) => b.type === "text").map((b) => b.text), ["Let me look. "]);
  same("stop", whole.stop_reason, "tool_use");
  same("ids", new Set(uses.map((b) => b.id)).size, 2);
  const content = uses.map((b, i) => ({ type: "tool_result", tool_use_id: b.id, content: SPEC.results[i] }));
  return [...ask(scenario), { role: "assistant", content: whole.content }, { role: "user", content }];
}

await play({
  async chat(model) {
    check(model, await client.messages.create(talk(model, "chat")));
  },
  async stream(model) {
    const pieces = [];
    const stream = client.messages.stream(talk(model, "stream")).on("text", (text) => pieces.push(text));
    const final = await stream.finalMessage();
    many("text", pieces, 4);
    same("pieces", pieces.join(""), said("says", model));
    check(model, final);
  },
  async tools(model) {
    const whole = await client.messages.create(call(model, "tools", { tools, tool_choice: { type: "any" } }));
    const answer = await client.messages.create(call(model, "", { tools, messages: history("tools", whole) }));
    same("answer", answer.content[0].text, said("reads", model));
  },
  async tools_stream(model) {
    const fragments = [];
    const stream = client.messages.stream(call(model, "tools_stream", { tools, tool_choice: { type: "any" } }));
    stream.on("inputJson", (piece) => piece && fragments.push(piece));
    const final = await stream.finalMessage();
    // Gemini sends the arguments of a call whole.
    many("arguments", fragments, model === "gemini" ? 2 : 10);
    const messages = history("tools_stream", final);
    const answer = await client.messages.stream(call(model, "", { tools, messages })).finalMessage();
    same("answer", answer.content[0].text, said("reads", model));
  },
  async vision(model) {
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data: SPEC.image } };
    const content = [{ type: "text", text: say("vision") }, image];
    const whole = await client.messages.create(call(model, "", { messages: [{ role: "user", content }] }));
    same("text", whole.content[0].text, said("sees", model));
  },
  async schema(model) {
    const output_config = { format: { type: "json_schema", schema: SPEC.schema } };
    const whole = await client.messages.create(call(model, "schema", { output_config }));
    same("text", JSON.parse(whole.content[0].text), JSON.parse(said("formed", model)));
  },
  async errors(model) {
    const no = said("refuses", model);
    // The SDK's message is the error's body as JSON.
    const quoted = JSON.stringify(no).slice(1, -1);
    for (const [status, kind] of [
      [400, Anthropic.BadRequestError],
      [429, Anthropic.RateLimitError],
      [500, Anthropic.InternalServerError],
      [529, Anthropic.InternalServerError],
    ]) {
      const error = await raises(kind, quoted, () => client.messages.create(call(model, `fail_${status}`)));
      same("status", (status === 529 ? [503, 529] : [status]).includes(error.status), true);
      same("type", error.error.type, "error");
    }
    // What a provider says about the gateway's own credentials is not told.
    const hidden = () => client.messages.create(call(`${model}-barred`, "fail_401"));
    const error = await raises(Anthropic.InternalServerError, "", hidden);
    same("secret", error.message.includes(quoted), false);
    const unknown = () => client.messages.create(call("no-such-model", "chat"));
    await raises(Anthropic.NotFoundError, "no-such-model", unknown);
  },
  async broken(model) {
    const no = JSON.stringify(said("refuses", model)).slice(1, -1);
    for (const [scenario, words] of [
      ["cut", ""],
      ["break", no],
    ]) {
      let text = "";
      const stream = client.messages.stream(call(model, scenario)).on("text", (piece) => (text += piece));
      await raises(Anthropic.APIError, words, () => stream.finalMessage());
      same("text before", said("says", model).startsWith(text) && text.length > 5, true);
    }
  },
  async cancel(model) {
    const stream = client.messages.stream(call(model, "cancel"));
    for await (const event of stream) if (event.type === "content_block_delta") break;
  },
});
