// The official OpenAI SDK for Node, chat completions.

import OpenAI from "openai";
import { BASE, KEY, SPEC, STOP, many, play, raises, said, same, say } from "./session.mjs";

const client = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: KEY, maxRetries: 0, timeout: 20_000 });
const chats = client.chat.completions;
const tools = SPEC.tools.map(({ name, description, schema }) => ({
  type: "function",
  function: { name, description, parameters: schema },
}));
const ask = (scenario) => [{ role: "user", content: say(scenario) }];

function talk(model, scenario) {
  const messages = [
    { role: "system", content: SPEC.system },
    { role: "user", content: 'Remember 17 & "ä".' },
    { role: "assistant", content: "Noted: 17." },
    ...ask(scenario),
  ];
  const out = { model, messages, temperature: 0.5, max_completion_tokens: 300 };
  // The Responses API has no stop texts.
  return model === "responses" ? out : { ...out, stop: STOP };
}

function check(model, whole) {
  const [total, cached, out] = SPEC.usage;
  same("text", whole.choices[0].message.content, said("says", model));
  same("finish", whole.choices[0].finish_reason, "stop");
  const u = whole.usage;
  same("usage", [u.prompt_tokens, u.completion_tokens, u.total_tokens], [total, out, total + out]);
  same("cached", u.prompt_tokens_details.cached_tokens, cached);
}

function history(scenario, message) {
  const calls = message.tool_calls;
  same("calls", calls.map((c) => [c.function.name, JSON.parse(c.function.arguments)]), SPEC.calls);
  same("text", message.content, "Let me look. ");
  same("ids", new Set(calls.map((c) => c.id)).size, 2);
  const results = calls.map((c, i) => ({ role: "tool", tool_call_id: c.id, content: SPEC.results[i] }));
  return [...ask(scenario), message, ...results];
}

/** A message as it was received: the SDK's stream helper adds members that the API does not take. */
function plain({ parsed, ...message }) {
  const calls = message.tool_calls.map(({ function: { parsed_arguments, ...f }, ...call }) => ({ ...call, function: f }));
  return { ...message, tool_calls: calls };
}

await play({
  async chat(model) {
    check(model, await chats.create(talk(model, "chat")));
  },
  async stream(model) {
    const stream = chats.stream({ ...talk(model, "stream"), stream_options: { include_usage: true } });
    const pieces = [];
    stream.on("content", (delta) => pieces.push(delta));
    const final = await stream.finalChatCompletion();
    many("text", pieces, 4);
    same("pieces", pieces.join(""), said("says", model));
    check(model, final);
  },
  async tools(model) {
    const whole = await chats.create({ model, messages: ask("tools"), tools, tool_choice: "required" });
    same("finish", whole.choices[0].finish_reason, "tool_calls");
    const messages = history("tools", whole.choices[0].message);
    const answer = await chats.create({ model, messages, tools });
    same("answer", answer.choices[0].message.content, said("reads", model));
  },
  async tools_stream(model) {
    const stream = chats.stream({ model, messages: ask("tools_stream"), tools, tool_choice: "required" });
    const fragments = [];
    stream.on("chunk", (chunk) => {
      for (const call of chunk.choices[0]?.delta?.tool_calls ?? []) {
        if (call.function?.arguments) fragments.push(call.function.arguments);
      }
    });
    const message = await stream.finalMessage();
    // Gemini sends the arguments of a call whole.
    many("arguments", fragments, model === "gemini" ? 2 : 10);
    const messages = history("tools_stream", plain(message));
    const answer = await chats.stream({ model, messages, tools }).finalContent();
    same("answer", answer, said("reads", model));
  },
  async vision(model) {
    const image = { type: "image_url", image_url: { url: `data:image/png;base64,${SPEC.image}` } };
    const content = [{ type: "text", text: say("vision") }, image];
    const whole = await chats.create({ model, messages: [{ role: "user", content }] });
    same("text", whole.choices[0].message.content, said("sees", model));
  },
  async schema(model) {
    const json_schema = { name: "city", strict: true, schema: SPEC.schema };
    const response_format = { type: "json_schema", json_schema };
    const whole = await chats.create({ model, messages: ask("schema"), response_format });
    same("text", JSON.parse(whole.choices[0].message.content), JSON.parse(said("formed", model)));
  },
  async errors(model) {
    const no = said("refuses", model);
    const fail = (scenario, name = model) => () => chats.create({ model: name, messages: ask(scenario) });
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
    const unknown = () => chats.create({ model: "no-such-model", messages: ask("chat") });
    await raises(OpenAI.NotFoundError, "no-such-model", unknown);
  },
  async broken(model) {
    for (const [scenario, words] of [
      ["cut", ""],
      ["break", said("refuses", model)],
    ]) {
      let text = "";
      await raises(OpenAI.APIError, words, async () => {
        const stream = await chats.create({ model, messages: ask(scenario), stream: true });
        for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
      });
      same("text before", said("says", model).startsWith(text) && text.length > 5, true);
    }
  },
  async cancel(model) {
    const stream = await chats.create({ model, messages: ask("cancel"), stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta?.content) break;
  },
});
