// Where was a photo taken?  node ask.mjs http://localhost:8000 kitchen photo.jpg  (Node 18 or later)
import { readFile } from "node:fs/promises";

const [url, place, photo] = process.argv.slice(2);
const answer = await fetch(`${url}/v1/places/${encodeURIComponent(place)}/localize?axes=webxr`, {
  method: "POST",
  body: await readFile(photo),
});
const value = await answer.json();
if (!answer.ok) throw new Error(value.error.message);
console.log(value.status === "localized" ? value.in_axes : value.reason);
