// Where a phone is: its camera's frames go over a WebSocket, smoothed poses come back.

const LONGER_SIDE = 640; // pixels of a frame that is sent: more is slower and hardly more exact
const SAY_EVERY_MS = 2000; // a screen reader is not to read every frame
const CHI2_95 = 2.4477; // radius of the ellipse that holds 95% of a Gauss in the plane
const WAY_POINTS = 2000;

const at = (id) => document.getElementById(id);
const state = { token: null, place: null, socket: null, stream: null, way: [], broken: true, said: "", saidAt: 0 };

// -- asking ------------------------------------------------------------------------------------

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname); // not to be seen over a shoulder
  }
  state.token = sessionStorage.getItem("token");
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (state.token) headers.authorization = `Bearer ${state.token}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  let message = `the service answered ${answer.status}`;
  try { message = (await answer.json()).error.message; } catch { /* not ours */ }
  const error = new Error(message);
  error.status = answer.status;
  throw error;
}

const placePath = (rest = "") => `v1/places/${encodeURIComponent(state.place.name)}${rest}`;

// -- the plan ----------------------------------------------------------------------------------

async function showPlace(name) {
  stopCamera();
  state.place = { name };
  state.place = await (await ask(placePath())).json();
  const { low, high } = state.place.floor;
  const [width, height] = [high[0] - low[0], high[1] - low[1]];
  const margin = 0.04 * Math.max(width, height); // so that a dot at the edge is whole
  at("plan").setAttribute("viewBox", `${low[0] - margin} ${-high[1] - margin} ${width + 2 * margin} ${height + 2 * margin}`);
  const walls = at("walls");
  const sides = { x: low[0], y: -high[1], width, height };
  for (const [key, value] of Object.entries(sides)) walls.setAttribute(key, value);
  const plan = await (await ask(placePath("/floor.png"))).blob();
  if (state.planUrl) URL.revokeObjectURL(state.planUrl);
  state.planUrl = URL.createObjectURL(plan);
  walls.setAttribute("href", state.planUrl);
  clearWay();
}

const onPlan = ([x, y, z]) => state.place.floor.floor_from_world.map((row) => row[0] * x + row[1] * y + row[2] * z);

function clearWay() {
  state.way = [];
  state.broken = true;
  at("way").setAttribute("d", "");
  for (const id of ["dot", "direction", "sigma"]) at(id).setAttribute("hidden", "");
}

function drawOnPlan(pose, covariance, guess) {
  const [x, y] = onPlan(pose.map((row) => row[3]).slice(0, 3));
  const ahead = onPlan(pose.map((row) => row[2]).slice(0, 3));
  const perPixel = 1 / (at("plan").getScreenCTM()?.a || 1);
  const dot = at("dot");
  dot.setAttribute("cx", x);
  dot.setAttribute("cy", -y);
  dot.setAttribute("r", 7 * perPixel);
  const angle = Math.atan2(-ahead[1], ahead[0]);
  const corner = (off, reach) => `${x + reach * perPixel * Math.cos(angle + off)} ${-y + reach * perPixel * Math.sin(angle + off)}`;
  at("direction").setAttribute("d", `M${x} ${-y}L${corner(-0.5, 34)}A${34 * perPixel} ${34 * perPixel} 0 0 1 ${corner(0.5, 34)}Z`);
  drawEllipse(x, y, covariance);
  for (const id of ["dot", "direction"]) {
    at(id).removeAttribute("hidden");
    at(id).classList.toggle("guess", guess);
  }
  state.way.push(`${state.broken ? "M" : "L"}${x} ${-y}`);
  state.broken = false;
  if (state.way.length > WAY_POINTS) state.way.splice(0, 1), (state.way[0] = state.way[0].replace("L", "M"));
  at("way").setAttribute("d", state.way.join(""));
}

function drawEllipse(x, y, covariance) {
  const ellipse = at("sigma");
  if (!covariance) return ellipse.setAttribute("hidden", "");
  const rows = state.place.floor.floor_from_world;
  const product = (u, v) => u.reduce((sum, a, i) => sum + v.reduce((inner, b, j) => inner + a * covariance[i][j] * b, 0), 0);
  const [a, b, c] = [product(rows[0], rows[0]), product(rows[0], rows[1]), product(rows[1], rows[1])];
  const middle = (a + c) / 2, half = Math.hypot((a - c) / 2, b);
  ellipse.setAttribute("rx", CHI2_95 * Math.sqrt(Math.max(middle + half, 0)));
  ellipse.setAttribute("ry", CHI2_95 * Math.sqrt(Math.max(middle - half, 0)));
  const turn = (-90 / Math.PI) * Math.atan2(2 * b, a - c);
  ellipse.setAttribute("transform", `translate(${x} ${-y}) rotate(${turn})`);
  ellipse.removeAttribute("hidden");
}

// -- the picture -------------------------------------------------------------------------------

function project(camera, worldFromCam, point) {
  const off = [0, 1, 2].map((i) => point[i] - worldFromCam[i][3]);
  const [x, y, z] = [0, 1, 2].map((j) => off.reduce((sum, value, i) => sum + value * worldFromCam[i][j], 0));
  if (z <= 0) return null;
  const p = camera.params;
  const two = ["PINHOLE", "OPENCV", "FULL_OPENCV"].includes(camera.model);
  const [fx, fy, cx, cy] = two ? p : [p[0], p[0], p[1], p[2]];
  const [u, v] = [x / z, y / z];
  const radius = u * u + v * v;
  const radial = { SIMPLE_RADIAL: 1 + (p[3] || 0) * radius, RADIAL: 1 + (p[3] || 0) * radius + (p[4] || 0) * radius * radius };
  const bent = radial[camera.model] ?? 1;
  return [fx * u * bent + cx, fy * v * bent + cy];
}

function drawOverPicture(answer, points, size) {
  const canvas = at("overlay");
  [canvas.width, canvas.height] = size;
  if (!at("show-points").checked || !answer.camera || !answer.world_from_cam) return;
  const pen = canvas.getContext("2d");
  const radius = Math.max(2, size[0] / 200);
  pen.fillStyle = "#3dfc8c";
  pen.strokeStyle = "#000a";
  for (const point of points || []) {
    const pixel = project(answer.camera, answer.world_from_cam, point);
    if (!pixel) continue;
    pen.beginPath();
    pen.arc(pixel[0], pixel[1], radius, 0, 2 * Math.PI);
    pen.fill();
    pen.stroke();
  }
}

// -- words -------------------------------------------------------------------------------------

function say(text, now = false) {
  const time = performance.now();
  if (text === state.said || (!now && time - state.saidAt < SAY_EVERY_MS)) return;
  [state.said, state.saidAt] = [text, time];
  at("answer").textContent = text;
}

function length(value, unit) {
  if (unit !== "metre") return `${value.toPrecision(1)} map units`;
  return value < 1 ? `${Math.max(100 * value, 1).toFixed(0)} cm` : `${value.toFixed(1)} m`;
}

function words(found) {
  if (!found.position) return `Position unknown: ${found.reason || "lost"}`;
  const sure = found.position_sigma == null ? "" : `, give or take ${length(2 * found.position_sigma, found.unit)}`;
  const guess = { bridged: ` (predicted from earlier frames; this one: ${found.reason})`, rejected: " (predicted; this frame contradicts the earlier ones)" };
  return `You are here${sure}${guess[found.status] || ""}`;
}

function showNumbers(found, milliseconds) {
  const where = found.position ? found.position.map((value) => value.toFixed(2)).join(" ") : "no position";
  const angle = found.rotation_sigma_deg == null ? "" : `, ± ${found.rotation_sigma_deg.toFixed(1)}°`;
  at("numbers").textContent = `${where}${angle} · ${Math.round(milliseconds)} ms`;
}

function show(found, own, points, size, started) {
  if (found.world_from_cam) drawOnPlan(found.world_from_cam, found.covariance, found.status !== "localized");
  else state.broken = true;
  drawOverPicture(own, points, size);
  const status = `${found.status}${found.position ? "" : found.reason}`;
  say(words(found), status !== state.status);
  state.status = status;
  requestAnimationFrame(() => {
    performance.measure("relocalize-frame", { start: started, end: performance.now() });
    showNumbers(found, performance.now() - started);
  });
}

// -- live --------------------------------------------------------------------------------------

async function startCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    return say("This browser allows the camera on https pages only: start the service with --https, or choose a photo.", true);
  }
  try {
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } } });
  } catch (error) {
    return say(`No camera: ${error.message}. Choose a photo instead.`, true);
  }
  at("photo").hidden = at("hint").hidden = true;
  const video = at("video");
  video.hidden = false;
  video.srcObject = state.stream;
  await video.play();
  at("camera").textContent = "Stop the camera";
  at("camera").setAttribute("aria-pressed", "true");
  track(state.stream).catch((error) => { stopCamera(); say(error.message, true); });
}

function stopCamera() {
  state.stream?.getTracks().forEach((one) => one.stop());
  state.socket?.close();
  state.stream = state.socket = null;
  at("camera").textContent = "Start the camera";
  at("camera").setAttribute("aria-pressed", "false");
}

function connected(url) {
  return new Promise((done, failed) => {
    const socket = new WebSocket(url);
    socket.onopen = () => done(socket);
    socket.onerror = () => failed(new Error("the service cannot be reached"));
  });
}

function answered(socket) {
  return new Promise((done, failed) => {
    socket.onmessage = (message) => done(JSON.parse(message.data));
    socket.onclose = (closed) => failed(new Error(closed.reason || "the service has ended the connection"));
  });
}

async function track(stream) {
  const url = new URL(placePath("/track"), location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = (state.socket = await connected(url));
  socket.send(JSON.stringify({ token: state.token, camera: { known: "unknown" }, points: true }));
  const video = at("video"), canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  while (state.stream === stream) {
    if (document.hidden || !video.videoWidth) { await new Promise((done) => setTimeout(done, 100)); continue; }
    const scale = Math.min(1, LONGER_SIDE / Math.max(video.videoWidth, video.videoHeight));
    [canvas.width, canvas.height] = [Math.round(scale * video.videoWidth), Math.round(scale * video.videoHeight)];
    const started = performance.now();
    pen.drawImage(video, 0, 0, canvas.width, canvas.height);
    const image = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
    if (state.stream !== stream) return;
    const answer = answered(socket);
    socket.send(JSON.stringify({ time_s: started / 1000 }));
    socket.send(image);
    let found;
    try { found = await answer; } catch (error) { if (state.stream !== stream) return; throw error; }
    show(found, found.frame, found.points, [canvas.width, canvas.height], started);
  }
}

// -- one photo ---------------------------------------------------------------------------------

async function askPhoto(file) {
  stopCamera();
  const started = performance.now();
  say("Looking…", true);
  const photo = at("photo");
  if (photo.src) URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(file);
  photo.hidden = false;
  at("video").hidden = at("hint").hidden = true;
  try {
    const answer = await (await ask(placePath("/localize?points=true"), { method: "POST", body: file })).json();
    state.broken = true;
    show(answer, answer, answer.points, answer.image_size, started);
  } catch (error) {
    drawOverPicture({}, [], [1, 1]);
    say(error.message, true);
  }
}

// -- beginning ---------------------------------------------------------------------------------

async function begin() {
  try {
    const { places } = await (await ask("v1/places")).json();
    at("place").replaceChildren(...places.map(({ name }) => new Option(name)));
    at("main").hidden = false;
    at("token-form").hidden = true;
    await showPlace(places[0].name);
    say("Start the camera, or choose a photo.", true);
  } catch (error) {
    if (error.status === 401) {
      at("token-form").hidden = false;
      at("token").focus();
      return say(state.token ? "Wrong token." : "A token is required.", true);
    }
    say(error.message, true);
  }
}

at("camera").addEventListener("click", () => (state.stream ? stopCamera() : startCamera()));
at("clear").addEventListener("click", clearWay);
at("file").addEventListener("change", (event) => { const [file] = event.target.files; if (file) askPhoto(file); event.target.value = ""; });
at("place").addEventListener("change", (event) => showPlace(event.target.value).catch((error) => say(error.message, true)));
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = at("token").value;
  sessionStorage.setItem("token", state.token);
  begin();
});
takeToken();
begin();
