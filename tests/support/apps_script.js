// Runs an Apps Script under Node with Google's services stubbed and real HTTP: a job as JSON on stdin, what it came to
// as JSON on stdout. Sleeping costs no time: the script's clock jumps ahead instead.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const vm = require('node:vm');
const { MessageChannel, receiveMessageOnPort, Worker } = require('node:worker_threads');

const job = JSON.parse(fs.readFileSync(0, 'utf8'));
const state = { offset: 0, locked: false, faults: [], fetches: [], triggers: [], properties: job.properties || {}, logs: [] };
const sheets = new Map(job.values ? [['Signals', job.values]] : []);
const formulas = [];

// synchronous HTTP, as UrlFetchApp's is
const signal = new Int32Array(new SharedArrayBuffer(4));
const { port1, port2 } = new MessageChannel();
const worker = new Worker(
  `const { workerData: { port, signal } } = require('node:worker_threads');
   port.on('message', async (request) => {
     let told;
     try {
       const answer = await fetch(request.url, request.options);
       told = { code: answer.status, text: await answer.text(), headers: Object.fromEntries(answer.headers) };
     } catch (error) { told = { failed: String(error) }; }
     port.postMessage(told);
     Atomics.store(signal, 0, 1);
     Atomics.notify(signal, 0);
   });`,
  { eval: true, workerData: { port: port2, signal }, transferList: [port2] },
);
function http(url, options) {
  Atomics.store(signal, 0, 0);
  port1.postMessage({ url, options });
  if (Atomics.wait(signal, 0, 0, 20000) === 'timed-out') throw new Error('the engine did not answer the test');
  return receiveMessageOnPort(port1).message;
}

function response(code, text, headers) {
  return { getResponseCode: () => code, getContentText: () => text, getHeaders: () => headers || {} };
}

function range(rows, row, column, height, width, sheet) {
  return {
    getSheet: () => sheet,
    getValue: () => (rows[row - 1] || [])[column - 1] ?? '',
    getValues: () =>
      Array.from({ length: height }, (_, r) =>
        Array.from({ length: width }, (_, c) => (rows[row - 1 + r] || [])[column - 1 + c] ?? ''),
      ),
    setValue(value) {
      while (rows.length < row) rows.push([]);
      if (typeof value === 'string' && /^[=+]/.test(value)) formulas.push(value);
      rows[row - 1][column - 1] = typeof value === 'string' && value.startsWith("'") ? value.slice(1) : value;
    },
    setValues: (values) => values.forEach((cells, n) => (rows[row - 1 + n] = cells.slice())),
  };
}
function sheetOf(name) {
  if (!sheets.has(name)) return null;
  const rows = sheets.get(name);
  const sheet = { getName: () => name, getSheetId: () => 7 };
  sheet.getRange = (row, column, height, width) => range(rows, row, column, height, width, sheet);
  sheet.getDataRange = () => {
    const width = Math.max(...rows.map((cells) => cells.length));
    const full = rows.map((cells) => Array.from({ length: width }, (_, n) => cells[n] ?? ''));
    return range(full, 1, 1, full.length, width, sheet);
  };
  return sheet;
}
const book = {
  getId: () => job.book || 'book-1',
  getSheetByName: sheetOf,
  insertSheet(name) {
    sheets.set(name, []);
    return sheetOf(name);
  },
};
function trigger(handler) {
  const made = { handler, kind: '', getHandlerFunction: () => handler };
  const builder = {
    forSpreadsheet: () => builder,
    onEdit: () => ((made.kind = 'edit'), builder),
    timeBased: () => builder,
    everyMinutes(n) {
      if (![1, 5, 10, 15, 30].includes(n)) throw new Error('Google allows 1, 5, 10, 15 or 30 minutes');
      made.kind = `every ${n}`;
      return builder;
    },
    create: () => state.triggers.push(made),
  };
  return builder;
}
const signedBytes = (buffer) => Array.from(new Int8Array(buffer));
const now = () => Date.now() + state.offset;

const google = {
  UrlFetchApp: {
    fetch(url, options) {
      if (options.muteHttpExceptions !== true) throw new Error('an error status would throw');
      const path = new URL(url).pathname.replace('/api/v1', '');
      const fetched = { path, key: options.headers['Idempotency-Key'] || null, body: options.payload };
      fetched.timestamp = options.headers['X-Timestamp'];
      state.fetches.push(fetched);
      const fault = state.faults.length && path === '/signals/sheets/webhook' ? state.faults.shift() : 'none';
      if (fault === 'never arrives') throw new Error('Timeout: ' + url);
      if (typeof fault === 'object') return response(fault.code, JSON.stringify(fault.answer));
      if (typeof fault === 'number') return response(fault, '{}', { 'Retry-After': '1' });
      if (fault === 'second run') vm.runInContext('engineSend()', context);
      if (fault === 'row inserted above') sheets.get('Signals').splice(1, 0, []);
      const told = http(url, {
        method: options.method,
        body: options.payload,
        headers: { ...options.headers, 'Content-Type': options.contentType },
      });
      if (told.failed) throw new Error(told.failed);
      fetched.code = told.code;
      if (fault === 'answer lost') throw new Error('Timeout: ' + url);
      if (fault === 'dies after') {
        // what Google ends does nothing any more; the script may catch this, but gets no further than its next sleep
        state.dead = true;
        throw new DiesNow();
      }
      return response(told.code, told.text, told.headers);
    },
  },
  SpreadsheetApp: {
    getActiveSpreadsheet: () => book,
    flush: () => undefined,
    getUi: () => ({
      ButtonSet: { OK_CANCEL: 1 },
      Button: { OK: 'ok' },
      prompt: () => ({ getSelectedButton: () => 'ok', getResponseText: () => ` ${job.answers.shift()} ` }),
    }),
  },
  PropertiesService: {
    getScriptProperties: () => ({
      getProperty: (name) => state.properties[name] ?? null,
      setProperty: (name, value) => (state.properties[name] = String(value)),
    }),
  },
  LockService: {
    getScriptLock: () => ({
      tryLock: () => !state.locked && !job.lockless && (state.locked = true) || Boolean(job.lockless),
      releaseLock: () => (state.locked = false),
    }),
  },
  ScriptApp: {
    getProjectTriggers: () => state.triggers.slice(),
    deleteTrigger: (old) => state.triggers.splice(state.triggers.indexOf(old), 1),
    newTrigger: trigger,
  },
  Utilities: {
    Charset: { UTF_8: 'UTF-8' },
    DigestAlgorithm: { SHA_256: 'sha256' },
    computeDigest: (algorithm, text) => signedBytes(crypto.createHash(algorithm).update(text, 'utf8').digest()),
    computeHmacSha256Signature(text, key, charset) {
      if (charset !== 'UTF-8') throw new Error('without a charset Google signs US-ASCII');
      return signedBytes(crypto.createHmac('sha256', key).update(text, 'utf8').digest());
    },
    sleep(ms) {
      if (state.dead) throw new DiesNow();
      state.offset += ms;
    },
    formatDate: (_, zone) => new Intl.DateTimeFormat('en-CA', { timeZone: zone }).format(new Date(now())),
  },
  console: {
    warn: (text) => state.logs.push(text),
    error: (text) => state.logs.push(text),
  },
};
class DiesNow extends Error {}

const context = vm.createContext(google);
vm.runInContext(job.script, context);
vm.runInContext('Date', context).now = now;

const told = [];
for (const step of job.steps) {
  if (step.faults) state.faults = step.faults.slice();
  if (step.advance) state.offset += step.advance * 1000;
  if (step.set) sheets.get('Signals')[step.set[0]][step.set[1]] = step.set[2];
  if (step.call) {
    try {
      const edited = { range: { getSheet: () => ({ getName: () => step.edits || 'Signals' }) } };
      vm.runInContext(step.call, context)(edited);
    } catch (error) {
      // a run that Google ends leaves no lock behind
      if (!(error instanceof DiesNow)) throw error;
      state.locked = state.dead = false;
    }
    told.push(sheets.has('Signals') ? sheets.get('Signals').map((cells) => cells.slice()) : null);
  }
}
const triggers = state.triggers.map((made) => [made.handler, made.kind]);
const { fetches, properties, logs } = state;
process.stdout.write(JSON.stringify({ told, fetches, properties, logs, triggers, formulas }), () => process.exit(0));
