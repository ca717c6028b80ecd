// Questions to the worker, one at a time: those of a livelier lane first, and none that a newer one has replaced.

const LANES = ["slider", "point", "own", "gallery", "line", "sums", "steps", "classes", "ranks", "strips"];

function engine(source) {
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const waiting = [];
  let running = null, ids = 0;
  const next = () => {
    if (running || !waiting.length) return;
    waiting.sort((a, b) => LANES.indexOf(a.lane) - LANES.indexOf(b.lane) || a.id - b.id);
    running = waiting.shift();
    worker.postMessage({ id: running.id, op: running.op, args: running.args });
  };
  worker.onmessage = ({ data }) => {
    const { done, failed } = running;
    running = null;
    next();
    if (data.error) failed(new Error(data.error));
    else done(data);
  };
  const ask = (lane, op, args) => new Promise((done, failed) => {
    waiting.push({ id: ids++, lane, op, args, done, failed });
    next();
  });
  const drop = (lane) => { for (let i = waiting.length; i-- > 0;) if (waiting[i].lane === lane) waiting.splice(i, 1); };
  return { ask, drop, idle: () => !running && !waiting.length };
}
