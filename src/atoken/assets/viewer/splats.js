// A viewer for splat .ply files in one file: WebGL2, no dependency, no network.
// showSplats(canvas, bytes): bytes is the ArrayBuffer of a binary little-endian .ply whose properties are floats, y down.
// Drag turns, the wheel or two fingers zoom, a double click starts again.
"use strict";

const VERTEX = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D data;
uniform mat4 view;
uniform vec2 focal, viewport;
in vec2 corner;
in uint index;
out vec2 place;
out vec4 colour;
vec4 read(int k) {
  int at = int(index) * 4 + k;
  return texelFetch(data, ivec2(at & 1023, at >> 10), 0);
}
void main() {
  vec4 a = read(0), b = read(1), c = read(2);
  gl_Position = vec4(0, 0, 2, 1);  // outside: not drawn
  vec4 p = view * vec4(a.xyz, 1.0);  // y up, the picture looks along -z
  float z = -p.z;
  if (z < 0.02) return;
  mat3 cov = mat3(b.x, b.y, b.z, b.y, b.w, c.x, b.z, c.x, c.y);
  vec2 edge = 0.65 * viewport / focal;  // perspective of centres far outside is taken at the border
  vec2 t = clamp(p.xy / z, -edge, edge);
  mat3 turn = mat3(view);
  vec3 u = transpose(turn) * vec3(focal.x / z, 0.0, focal.x * t.x / z);
  vec3 v = transpose(turn) * vec3(0.0, focal.y / z, focal.y * t.y / z);
  float xx = dot(u, cov * u), xy = dot(u, cov * v), yy = dot(v, cov * v);
  float sharp = max(xx * yy - xy * xy, 0.0);
  xx += 0.1; yy += 0.1;  // mip filter
  float wide = xx * yy - xy * xy;
  float opacity = a.w * sqrt(sharp / wide);
  if (opacity < 1.0 / 255.0) return;
  float mid = (xx + yy) / 2.0, half_ = sqrt(max(mid * mid - wide, 1e-9));
  vec2 axis = abs(xy) > 1e-6 ? normalize(vec2(xy, mid + half_ - xx)) : (xx >= yy ? vec2(1, 0) : vec2(0, 1));
  float reach = sqrt(2.0 * log(255.0 * opacity));
  vec2 major = axis * sqrt(mid + half_), minor = vec2(-axis.y, axis.x) * sqrt(max(mid - half_, 1e-6));
  place = corner * reach;
  colour = vec4(c.zw, read(3).x, opacity);
  vec2 centre = p.xy / z * focal;
  gl_Position = vec4((centre + place.x * major + place.y * minor) / (viewport / 2.0), 0, 1);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec2 place;
in vec4 colour;
out vec4 pixel;
void main() {
  float alpha = min(colour.a * exp(-dot(place, place) / 2.0), 0.999);
  if (alpha < 1.0 / 255.0) discard;
  pixel = vec4(colour.rgb * alpha, alpha);
}`;

function parsePly(bytes) {
  const head = new TextDecoder("latin1").decode(bytes.slice(0, 65536));
  const end = head.indexOf("end_header\n");
  if (end < 0 || !head.includes("binary_little_endian")) throw new Error("not a binary splat .ply");
  const count = Number(/element vertex (\d+)/.exec(head)[1]);
  const names = [...head.slice(0, end).matchAll(/property float (\w+)/g)].map((match) => match[1]);
  const table = new Float32Array(bytes.slice(end + 11, end + 11 + count * names.length * 4));
  const column = (name) => { const k = names.indexOf(name); return (i) => table[i * names.length + k]; };
  return { count, column };
}

function packSplats({ count, column }) {
  const rows = Math.ceil(count / 256), data = new Float32Array(rows * 4096), means = new Float32Array(count * 3);
  const [x, y, z, opacity] = ["x", "y", "z", "opacity"].map(column);
  const sh = [0, 1, 2].map((k) => column("f_dc_" + k)), scale = [0, 1, 2].map((k) => column("scale_" + k));
  const rot = [0, 1, 2, 3].map((k) => column("rot_" + k));
  for (let i = 0; i < count; i++) {
    const q = rot.map((r) => r(i)), n = Math.hypot(...q);
    const [w, a, b, c] = q.map((value) => value / n);
    const axes = [
      [1 - 2 * (b * b + c * c), 2 * (a * b - w * c), 2 * (a * c + w * b)],
      [2 * (a * b + w * c), 1 - 2 * (a * a + c * c), 2 * (b * c - w * a)],
      [2 * (a * c - w * b), 2 * (b * c + w * a), 1 - 2 * (a * a + b * b)],
    ];
    axes[0] = axes[0].map((v) => -v); axes[1] = axes[1].map((v) => -v);  // y down to y up: half a turn about z
    const variance = scale.map((s) => Math.exp(2 * s(i)));
    const cov = (r, s) => axes[r].reduce((sum, v, k) => sum + v * axes[s][k] * variance[k], 0);
    const rgb = sh.map((f) => Math.max(0, 0.5 + 0.28209479177387814 * f(i)));
    const mean = [-x(i), -y(i), z(i)];
    means.set(mean, i * 3);
    data.set([...mean, 1 / (1 + Math.exp(-opacity(i))), cov(0, 0), cov(0, 1), cov(0, 2), cov(1, 1),
      cov(1, 2), cov(2, 2), rgb[0], rgb[1], rgb[2], 0, 0, 0], i * 16);
  }
  return { count, rows, data, means };
}

function frameOf(means) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  means.forEach((v, i) => { low[i % 3] = Math.min(low[i % 3], v); high[i % 3] = Math.max(high[i % 3], v); });
  return { centre: low.map((v, k) => (v + high[k]) / 2), radius: Math.hypot(...low.map((v, k) => high[k] - v)) / 2 || 1 };
}

function viewMatrix(centre, yaw, pitch, distance) {
  const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  const rows = [[cy, 0, -sy], [-sy * sp, cp, -cy * sp], [sy * cp, sp, cy * cp]];  // right, up, towards the eye
  const move = rows.map((r) => -(r[0] * centre[0] + r[1] * centre[1] + r[2] * centre[2]));
  move[2] -= distance;
  return new Float32Array([...[0, 1, 2].flatMap((k) => [rows[0][k], rows[1][k], rows[2][k], 0]), ...move, 1]);
}

function sortBackToFront(means, view, order, depths) {
  const count = order.length, buckets = new Uint32Array(65537);
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < count; i++) {
    const z = view[2] * means[3 * i] + view[6] * means[3 * i + 1] + view[10] * means[3 * i + 2];
    depths[i] = z; low = Math.min(low, z); high = Math.max(high, z);
  }
  const factor = 65535 / (high - low || 1);
  for (let i = 0; i < count; i++) buckets[((depths[i] - low) * factor | 0) + 1]++;
  for (let b = 0; b < 65536; b++) buckets[b + 1] += buckets[b];
  for (let i = 0; i < count; i++) order[buckets[(depths[i] - low) * factor | 0]++] = i;
}

function compile(gl) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text); gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program); gl.useProgram(program);
  return program;
}

function showSplats(canvas, bytes) {
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, premultipliedAlpha: true });
  if (!gl) throw new Error("this browser has no WebGL2");
  const { count, rows, data, means } = packSplats(parsePly(bytes)), { centre, radius } = frameOf(means);
  const program = compile(gl), at = (name) => gl.getUniformLocation(program, name);
  const attribute = (name, values, size, divisor) => {
    const place = gl.getAttribLocation(program, name), buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer); gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(place); gl.vertexAttribDivisor(place, divisor);
    if (divisor) gl.vertexAttribIPointer(place, size, gl.UNSIGNED_INT, 0, 0);
    else gl.vertexAttribPointer(place, size, gl.FLOAT, false, 0, 0);
  };
  const order = new Uint32Array(count), depths = new Float32Array(count);
  attribute("corner", new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), 2, 0);
  attribute("index", order, 1, 1);  // stays bound: the order is uploaded for every picture
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, 1024, rows, 0, gl.RGBA, gl.FLOAT, data);
  for (const key of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, key, gl.NEAREST);
  gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

  const start = { yaw: 0.6, pitch: 0.35, distance: radius * 3.2 };
  let eye = { ...start }, touched = false, drawn = "", last = 0;
  function draw(time) {
    requestAnimationFrame(draw);
    if (!touched && canvas.dataset.still === undefined) eye.yaw += Math.min(time - last, 50) * 4e-4;
    last = time;
    const width = Math.round(canvas.clientWidth * devicePixelRatio), height = Math.round(canvas.clientHeight * devicePixelRatio);
    const state = [eye.yaw, eye.pitch, eye.distance, width, height].join();
    if (state === drawn || !width || !height) return;
    drawn = state; canvas.width = width; canvas.height = height;
    const view = viewMatrix(centre, eye.yaw, eye.pitch, eye.distance);
    sortBackToFront(means, view, order, depths);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, order);
    gl.viewport(0, 0, width, height); gl.clearColor(0, 0, 0, 0); gl.clear(gl.COLOR_BUFFER_BIT);
    const focal = Math.min(width, height) / 2 / Math.tan(20 * Math.PI / 180);  // 40 degrees across
    gl.uniformMatrix4fv(at("view"), false, view);
    gl.uniform2f(at("focal"), focal, focal); gl.uniform2f(at("viewport"), width, height);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
    canvas.dataset.drawn = count;
  }

  const fingers = new Map();
  canvas.style.touchAction = "none";
  canvas.addEventListener("pointerdown", (e) => { fingers.set(e.pointerId, e); canvas.setPointerCapture(e.pointerId); touched = true; });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (e) => fingers.delete(e.pointerId));
  canvas.addEventListener("pointermove", (e) => {
    const before = fingers.get(e.pointerId);
    if (!before) return;
    if (fingers.size === 1) {
      eye.yaw -= (e.clientX - before.clientX) * 0.008;
      eye.pitch = Math.max(-1.55, Math.min(1.55, eye.pitch + (e.clientY - before.clientY) * 0.008));
    } else {
      const other = [...fingers.values()].find((f) => f.pointerId !== e.pointerId);
      const gap = (f) => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY);
      zoom(gap(before) / (gap(e) || 1));
    }
    fingers.set(e.pointerId, e);
  });
  const zoom = (factor) => { touched = true; eye.distance = Math.max(radius * 0.3, Math.min(radius * 20, eye.distance * factor)); };
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(e.deltaY * 1e-3)); }, { passive: false });
  canvas.addEventListener("dblclick", () => { eye = { ...start }; touched = false; });
  requestAnimationFrame(draw);
}
