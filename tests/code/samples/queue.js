// A queue of jobs with retries, a limit on how many run at once, and events.
import { EventEmitter } from "node:events";
import fs from "node:fs/promises";

const DEFAULTS = { limit: 2, retries: 3, backoff: 50 };
const PATTERN = /^[a-z][\w-]{2,31}$/i;

export class JobError extends Error {
  constructor(name, cause) {
    super(`job ${name} failed: ${cause?.message ?? "unknown"}`);
    this.name = "JobError";
    this.cause = cause;
  }
}

export class Queue extends EventEmitter {
  #waiting = [];
  #running = new Map();
  static count = 0;

  constructor(options = {}) {
    super();
    this.options = { ...DEFAULTS, ...options };
    Queue.count += 1;
  }

  get size() {
    return this.#waiting.length + this.#running.size;
  }

  add(name, work, { priority = 0 } = {}) {
    if (!PATTERN.test(name)) {
      throw new TypeError(`bad job name: ${JSON.stringify(name)}`);
    }
    return new Promise((resolve, reject) => {
      const job = { name, work, priority, tries: 0, resolve, reject };
      const at = this.#waiting.findIndex((other) => other.priority < priority);
      if (at === -1) this.#waiting.push(job);
      else this.#waiting.splice(at, 0, job);
      this.emit("added", name);
      this.#next();
    });
  }

  #next() {
    while (this.#running.size < this.options.limit && this.#waiting.length > 0) {
      const job = this.#waiting.shift();
      this.#running.set(job.name, job);
      this.#run(job).finally(() => {
        this.#running.delete(job.name);
        this.#next();
      });
    }
  }

  async #run(job) {
    for (;;) {
      job.tries++;
      try {
        const result = await job.work({ attempt: job.tries });
        job.resolve(result);
        this.emit("done", job.name, job.tries);
        return;
      } catch (error) {
        if (job.tries > this.options.retries) {
          job.reject(new JobError(job.name, error));
          this.emit("failed", job.name);
          return;
        }
        await sleep(this.options.backoff * 2 ** (job.tries - 1));
      }
    }
  }

  async *drain() {
    while (this.size > 0) {
      const [name] = await once(this, "done");
      yield name;
    }
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function once(emitter, event) {
  return new Promise((resolve) => emitter.once(event, (...args) => resolve(args)));
}

function summarise(lines) {
  const counts = {};
  for (const line of lines) {
    const key = line.split(":")[0].trim() || "(empty)";
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return Object.entries(counts).sort(([, a], [, b]) => b - a);
}

export default async function main(path = "jobs.txt") {
  const queue = new Queue({ limit: 4 });
  const text = await fs.readFile(path, "utf8");
  const jobs = text.split(/\r?\n/).filter(Boolean);
  const results = await Promise.allSettled(
    jobs.map((line, i) => queue.add(`job-${i}`, async () => line.length, { priority: i % 3 })),
  );
  switch (results.length) {
    case 0:
      console.log("nothing to do");
      break;
    default:
      console.table(summarise(jobs));
  }
  label: for (const { status, value } of results) {
    if (status !== "fulfilled") continue label;
    console.log(value >>> 0, value % 2 === 0 ? "even" : "odd");
  }
}
