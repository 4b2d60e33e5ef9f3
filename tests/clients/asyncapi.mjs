// Holds docs/asyncapi.yaml against AsyncAPI's own parser, and messages against its schemas. Messages come as JSON, one a line, each with who said
// it: `> {…}` for the client, `< {…}` for the server. Prints the names of those that it met.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";
import addFormats from "ajv-formats";

const source = readFileSync(new URL("../../docs/asyncapi.yaml", import.meta.url), "utf8");
const { document, diagnostics } = await new Parser().parse(source);
// Severities: 0 an error, 1 a warning. There is a newer version than the one that most tools know.
const wrong = diagnostics.filter(({ severity, code }) => severity <= 1 && code !== "asyncapi-latest-version");
if (!document || wrong.length > 0) {
  console.error(JSON.stringify(wrong, null, 1));
  process.exit(1);
}

const ajv = new Ajv({ strict: false });
addFormats(ajv);
const described = { ">": [], "<": [] };
for (const operation of document.allOperations().all()) {
  const side = operation.action() === "receive" ? ">" : "<";
  for (const message of operation.messages().all()) {
    described[side].push({ name: message.id(), fits: ajv.compile(message.payload().json()) });
  }
}

const met = new Set();
for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line.slice(2));
  const named = (schema) => schema?.const === (message.type ?? message.op) || schema?.enum?.includes(message.type);
  const candidates = described[line[0]].filter(({ fits }) => named(fits.schema.properties.type ?? fits.schema.properties.op));
  const errors = candidates.flatMap(({ name, fits }) => (fits(message) ? (met.add(name), []) : fits.errors));
  if (candidates.length !== 1 || errors.length > 0) {
    console.error(`${line}\n${candidates.length} descriptions; ${JSON.stringify(errors)}`);
    process.exit(1);
  }
}
console.log([...met].sort().join(" "));
