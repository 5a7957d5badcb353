"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  const canvases = [...document.querySelectorAll("canvas[data-stream]")];
  const [clipSelect, play, scrubber, clock, speed] = ["clip", "play", "scrubber", "clock", "speed"].map(by);
  const PLAY = "M7 4v16l13-8z", PAUSE = "M6 4h4v16H6zM14 4h4v16h-4z";
  const SVG = "http://www.w3.org/2000/svg";
  const shade = image(data.shade);

  let clip = null;       // the clip that is shown
  let sheets = {};       // its streams, decoded
  let frame = 0;
  let playing = false;
  let since = 0;         // when, on the page's clock, frame 0 would have been shown

  function image(uri) {
    const made = new Image();
    made.src = uri;
    return made;
  }

  async function show(index, at) {
    const chosen = data.clips[index];
    const loaded = {};
    await Promise.all(canvases.map(async (canvas) => {
      const stream = chosen[canvas.dataset.stream];
      if (!stream) return;
      loaded[canvas.dataset.stream] = image(stream.uri);
      await loaded[canvas.dataset.stream].decode();
    }));
    await shade.decode();
    clip = chosen;
    sheets = loaded;
    clipSelect.value = String(index);
    scrubber.max = String(clip.frames - 1);
    const scale = by("std-scale");
    if (scale) scale.textContent = `0–${clip.top} gray levels`;
    for (const canvas of canvases) {
      canvas.width = clip.width;
      canvas.height = clip.height;
      canvas.closest("figure").hidden = !sheets[canvas.dataset.stream];
    }
    for (const row of document.querySelectorAll("#table tbody tr")) {
      row.classList.toggle("playing", Number(row.dataset.row) === clip.row);
    }
    drawCurves();
    by("raster").hidden = !clip.responses;
    if (clip.responses) by("responses").src = clip.responses;
    go(at === undefined ? Math.floor(clip.frames / 2) : at);
  }

  function go(to) {
    frame = Math.max(0, Math.min(clip.frames - 1, to));
    since = performance.now() - 1000 * frame / (clip.rate * Number(speed.value));
    for (const canvas of canvases) {
      const sheet = sheets[canvas.dataset.stream];
      if (!sheet) continue;
      const columns = clip[canvas.dataset.stream].columns;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(sheet, (frame % columns) * clip.width, Math.floor(frame / columns) * clip.height,
        clip.width, clip.height, 0, 0, clip.width, clip.height);
      if (by("shade").checked) context.drawImage(shade, 0, 0);
    }
    scrubber.value = String(frame);
    const seconds = (frame / clip.rate).toFixed(2);
    scrubber.setAttribute("aria-valuetext", `${seconds} seconds, frame ${frame + 1} of ${clip.frames}`);
    clock.textContent = `${seconds} s, frame ${frame + 1} of ${clip.frames}`;
    by("raster-now").style.left = `calc(1.3rem + (100% - 1.3rem) * ${(frame + 0.5) / clip.frames})`;
    const now = by("now");
    if (now) {
      const x = String(1000 * (frame + 0.5) / clip.frames);
      now.setAttribute("x1", x);
      now.setAttribute("x2", x);
      clip.curves.forEach((curve, index) => {
        const value = curve.values[frame];
        by(`value${index}`).textContent = value === null ? "–" : value.toFixed(2).replace("-", "−");
      });
    }
  }

  function tick() {
    if (!playing) return;
    const due = Math.floor((performance.now() - since) * clip.rate * Number(speed.value) / 1000);
    if (due >= clip.frames) {
      if (!by("loop").checked) {
        go(clip.frames - 1);
        setPlaying(false);
        return;
      }
      go(0);
    } else if (due !== frame) {
      const start = since;
      go(due);
      since = start;     // keep the beat: frames are due by the clock, not one after the last
    }
    requestAnimationFrame(tick);
  }

  function setPlaying(on) {
    if (on === playing || !clip) return;
    playing = on;
    play.setAttribute("aria-label", on ? "Pause" : "Play");
    by("play-icon").setAttribute("d", on ? PAUSE : PLAY);
    if (on) {
      go(frame === clip.frames - 1 ? 0 : frame);
      requestAnimationFrame(tick);
    }
  }

  function step(by_) {
    setPlaying(false);
    go(frame + by_);
  }

  function element(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
    return made;
  }

  // correlation 1 is at the top, 0 at four fifths, and what is below -0.25 at the bottom
  const height = (value) => Math.min(120, 96 * (1 - value));

  function drawCurves() {
    by("curves").hidden = clip.curves.length === 0;
    const chart = by("chart"), legend = by("legend");
    chart.replaceChildren(element("line", { x1: 0, x2: 1000, y1: 96, y2: 96 }));
    legend.replaceChildren();
    clip.curves.forEach((curve, index) => {
      let path = "", pen = "M";
      curve.values.forEach((value, at) => {
        if (value === null) { pen = "M"; return; }
        path += `${pen}${(1000 * (at + 0.5) / clip.frames).toFixed(1)} ${height(value).toFixed(1)}`;
        pen = "L";
      });
      chart.append(element("path", { d: path, class: `line${index % 4}` }));
      const name = document.createElement("span"), value = document.createElement("i");
      name.className = `line${index % 4}`;
      value.id = `value${index}`;
      name.append(document.createTextNode(`${curve.label} `), value);
      legend.append(name);
    });
    chart.append(element("line", { id: "now", class: "now", y1: 0, y2: 120 }));
  }

  function sort(heading) {
    const up = heading.getAttribute("aria-sort") === "descending" || (heading.classList.contains("text")
      && heading.getAttribute("aria-sort") === "none");
    for (const other of heading.parentElement.children) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = document.querySelector("#table tbody");
    const column = [...heading.parentElement.children].indexOf(heading);
    const key = (row) => row.children[column].dataset.value;
    const compare = heading.classList.contains("text")
      ? (a, b) => key(a).localeCompare(key(b), undefined, { numeric: true })
      : (a, b) => Number(key(a)) - Number(key(b));
    const missing = (row) => !heading.classList.contains("text") && Number.isNaN(Number(key(row)));
    body.append(...[...body.rows].sort((a, b) =>
      missing(a) - missing(b) || (up ? compare(a, b) : compare(b, a)) || 0));
  }

  clipSelect.addEventListener("change", () => { setPlaying(false); show(Number(clipSelect.value), 0); });
  play.addEventListener("click", () => setPlaying(!playing));
  by("back").addEventListener("click", () => step(-1));
  by("forward").addEventListener("click", () => step(1));
  scrubber.addEventListener("input", () => { setPlaying(false); go(Number(scrubber.value)); });
  speed.addEventListener("change", () => go(frame));
  by("shade").addEventListener("change", () => go(frame));
  by("smooth").addEventListener("change", (event) => {
    document.querySelector(".streams").classList.toggle("smooth", event.target.checked);
  });
  for (const chart of [by("chart"), by("responses")]) {
    chart.addEventListener("click", (event) => {
      const box = chart.getBoundingClientRect();
      setPlaying(false);
      go(Math.floor(clip.frames * (event.clientX - box.left) / box.width));
    });
  }
  by("player").addEventListener("keydown", (event) => {
    if (event.target.matches("select, input[type=checkbox]")) return;
    const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => step(-clip.frames), End: () => step(clip.frames) };
    if (event.key === " " && !event.target.matches("button")) setPlaying(!playing);
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
  for (const heading of document.querySelectorAll("#table thead th")) {
    heading.querySelector("button").addEventListener("click", () => sort(heading));
  }
  for (const link of document.querySelectorAll("[data-play]")) {
    link.addEventListener("click", async () => {
      setPlaying(false);
      await show(data.clips.findIndex((one) => one.row === Number(link.dataset.play)), 0);
      by("player").focus({ preventScroll: true });
      setPlaying(true);
    });
  }
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });

  show(0);
})();
