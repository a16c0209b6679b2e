"use strict";

// One viewer: all pictures are in the page, one of them shown; the poses are paths over it.
function view(viewer) {
  const data = JSON.parse(viewer.querySelector("script").textContent);
  const input = (name) => viewer.querySelector(`input[name=${name}]`);
  const checked = (name) => input(name).checked;
  const images = viewer.querySelectorAll("img");
  const stage = viewer.querySelector(".stage");
  const divider = viewer.querySelector(".divider");
  const slider = input("frame");
  const edge = input("edge");
  const output = viewer.querySelector("output");
  const play = viewer.querySelector("button");
  let timer = null;

  function draw() {
    const now = slider.valueAsNumber;
    const [width, height] = data.sizes[now];
    images.forEach((image, i) => { image.hidden = i !== now; });
    stage.style.setProperty("--ratio", width / height);
    output.textContent = data.names[now];
    slider.setAttribute("aria-valuetext", data.names[now]);
    const changed = data.before[now].map((a, k) => moved(a, data.after[now][k], data.changed * Math.max(width, height)));
    const wanted = changed.map((change) => change || !checked("only"));
    for (const name of ["before", "after"]) {
      const layer = stage.querySelector(`svg.${name}`);
      // Pixel centres lie at integers, so the picture begins half a pixel before 0.
      layer.setAttribute("viewBox", `-0.5 -0.5 ${width} ${height}`);
      layer.toggleAttribute("hidden", !checked(name));
      drawPose(layer, data[name][now], wanted, faint(name, now));
    }
    wipe();
  }

  // Which joints the network is less sure of than the p-cutoff asks.
  function faint(name, now) {
    const values = data.confidence[name];
    const least = values && input("pcutoff").valueAsNumber;
    return data[name][now].map((_, k) => Boolean(values) && values[now][k] < least);
  }

  function drawPose(layer, joints, wanted, fainter) {
    const shown = ([a, b]) => joints[a] && joints[b] && (wanted[a] || wanted[b]);
    const limbs = data.limbs.map((limb) => (shown(limb) ? `M${joints[limb[0]]}L${joints[limb[1]]}` : ""));
    const weak = data.limbs.map(([a, b]) => fainter[a] || fainter[b]);
    const dots = joints.map((joint, k) => (joint && wanted[k] ? `M${joint}h0` : ""));
    const rim = (paths, less) => paths.filter((_, i) => !less[i]).join("");
    layer.querySelector(".rim.limbs").setAttribute("d", rim(limbs, weak));
    layer.querySelector(".rim.joints").setAttribute("d", rim(dots, fainter));
    for (const [css, paths, less] of [[".limb", limbs, weak], [".joint", dots, fainter]]) {
      layer.querySelectorAll(css).forEach((path, i) => {
        path.setAttribute("d", paths[i]);
        path.classList.toggle("faint", less[i]);
      });
    }
  }

  // Left of the edge the pose before, right of it the pose after.
  function wipe() {
    const on = checked("wipe");
    const at = edge.valueAsNumber;
    edge.disabled = divider.hidden = !on;
    divider.style.left = `${at}%`;
    stage.querySelector("svg.before").style.clipPath = on ? `inset(0 ${100 - at}% 0 0)` : "";
    stage.querySelector("svg.after").style.clipPath = on ? `inset(0 0 0 ${at}%)` : "";
    stage.classList.toggle("wiping", on);
  }

  function drag(event) {
    if (!checked("wipe") || !event.buttons) return;
    const place = stage.getBoundingClientRect();
    edge.value = 100 * (event.clientX - place.left) / place.width;
    wipe();
  }

  function go(frame) {
    slider.value = (frame + images.length) % images.length;
    draw();
  }

  function run(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => go(slider.valueAsNumber + 1), 125) : null;
    play.textContent = on ? "Pause" : "Play";
  }

  play.addEventListener("click", () => run(timer === null));
  slider.addEventListener("input", () => { run(false); draw(); });
  edge.addEventListener("input", wipe);
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);
  viewer.addEventListener("change", draw);
  viewer.step = (by) => { run(false); go(slider.valueAsNumber + by); };
  draw();
}

// A joint that only one of the poses has is changed too.
function moved(a, b, least) {
  return a && b ? Math.hypot(a[0] - b[0], a[1] - b[1]) > least : Boolean(a) !== Boolean(b);
}

// One of several drawings, by the list above them.
function choose(chooser) {
  const list = chooser.querySelector("select");
  const show = () => chooser.querySelectorAll(".choice").forEach((each, i) => { each.hidden = i !== list.selectedIndex; });
  list.addEventListener("change", show);
  show();
}

const viewers = document.querySelectorAll(".viewer");
viewers.forEach(view);
document.querySelectorAll(".chooser").forEach(choose);

// Arrow keys go to the viewer that has the focus; to the first one where nothing has it. Where
// they mean something else already (the wipe, the p-cutoff) they keep that meaning.
document.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const idle = event.target === document.body;
  const viewer = idle ? viewers[0] : event.target.closest(".viewer");
  if (!by || !viewer || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.matches("[name=edge], [type=number]")) return;
  event.preventDefault();
  viewer.step(by);
});
