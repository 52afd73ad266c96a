// Shows openapi.json. Everything is put in as text, so that no description can become markup.
"use strict";

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  const range = [["minimum", "≥"], ["maximum", "≤"], ["maxLength", "length ≤"]]
    .filter(([key]) => schema[key] !== undefined).map(([key, sign]) => `${sign} ${schema[key]}`);
  return [schema.type || (schema.enum || [schema.const]).join(", "), ...range].join(" ");
}

function fields(title, rows) {
  const table = element("table");
  for (const [name, type, meaning] of rows) {
    table.append(element("tr", "", element("th", name), element("td", type), element("td", meaning || "")));
  }
  return rows.length ? [element("h4", title), table] : [];
}

function fieldsOf(schema, all) {
  const found = schema && schema.$ref ? all[typeOf(schema)] : schema;
  return Object.entries((found && found.properties) || {}).map(([name, each]) => [name, typeOf(each), each.description]);
}

function show(path, method, operation, all) {
  const head = element("summary", "", element("span", method), element("code", path), ` ${operation.summary || ""}`);
  head.firstChild.className = "method";
  const shown = element("details", "", head);
  if (operation.description) shown.append(element("p", operation.description));
  shown.append(...fields("Parameters", operation.parameters.map(
    (each) => [`${each.name} (${each.in})`, typeOf(each.schema), each.description || each.schema.description])));
  const body = operation.requestBody && operation.requestBody.content;
  for (const [type, each] of Object.entries(body || {})) {
    shown.append(...fields(`Body: ${type} ${typeOf(each.schema)}`, fieldsOf(each.schema, all)));
  }
  for (const [status, answer] of Object.entries(operation.responses)) {
    for (const [type, each] of Object.entries(answer.content || {})) {
      const rows = fieldsOf(each.schema, all);
      shown.append(...fields(`Answer ${status}: ${type} ${typeOf(each.schema)}`, rows.length ? rows : [["-", "", ""]]));
    }
  }
  return shown;
}

async function load() {
  const about = document.getElementById("about");
  const answer = await fetch("openapi.json");
  const api = await answer.json();
  const schemas = api.components.schemas;
  about.textContent = `${api.info.title} ${api.info.version}: ${api.info.description}`;
  const sections = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = (operation.tags || ["others"])[0];
      if (!sections.has(tag)) sections.set(tag, element("section", "", element("h2", tag)));
      sections.get(tag).append(show(path, method, operation, schemas));
    }
  }
  const main = document.getElementById("operations");
  for (const tag of [...sections.keys()].sort()) main.append(sections.get(tag));
}

load().catch((error) => { document.getElementById("about").textContent = `openapi.json: ${error}`; });
