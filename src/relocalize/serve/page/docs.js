// The OpenAPI document for people, without anything from elsewhere.

const made = (kind, text, ...inside) => {
  const node = document.createElement(kind);
  if (text) node.textContent = text;
  node.append(...inside);
  return node;
};

const table = (head, rows) =>
  made("table", "", made("tr", "", ...head.map((text) => made("th", text))), ...rows.map((row) => made("tr", "", ...row.map((text) => made("td", text)))));

const parts = (document, schema) => {
  const name = schema?.$ref?.split("/").pop();
  return name ? document.components.schemas[name] : schema;
};

const kindOf = (schema) =>
  schema.enum?.join(" | ") || schema.type || (schema.anyOf || []).map(kindOf).join(" or ") || schema.$ref?.split("/").pop() || "any";

const fields = (document, schema) =>
  Object.entries(parts(document, schema)?.properties || {}).map(([name, inner]) => [name, kindOf(inner), inner.description || ""]);

function route(document, method, path, told) {
  const section = made("section", "", made("h2", "", made("code", `${method.toUpperCase()} ${path}`)), made("p", told.description || ""));
  const parameters = (told.parameters || []).map((one) => [one.name, one.in, one.description || kindOf(one.schema || {})]);
  if (parameters.length) section.append(made("h3", "Parameters"), table(["name", "in", "is"], parameters));
  const bodies = Object.entries(told.requestBody?.content || {});
  if (bodies.length) section.append(made("h3", "Body"), made("p", bodies.map(([kind]) => kind).join(", ")));
  const json = bodies.find(([kind]) => kind === "application/json");
  if (json) section.append(table(["key", "kind", "is"], fields(document, json[1].schema)));
  const answer = told.responses?.["200"]?.content?.["application/json"]?.schema;
  const answered = answer ? fields(document, answer) : [];
  if (answered.length) section.append(made("h3", "Answer"), table(["key", "kind", "is"], answered));
  section.append(made("p", `Statuses: ${Object.keys(told.responses || {}).join(", ")}`));
  return section;
}

const asked = await fetch("openapi.json");
const openapi = await asked.json();
const routes = Object.entries(openapi.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, told]) => route(openapi, method, path, told)));
document.getElementById("routes").replaceChildren(...routes);
