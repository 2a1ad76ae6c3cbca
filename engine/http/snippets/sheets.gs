/**
 * Sends the rows of the sheet "Signals" to the trading engine, each once.
 *
 * To begin: Extensions > Apps Script, replace everything there by this text, save, reload the spreadsheet, then
 * Engine > Connect in its menu. It asks for the API key and the secret (kept as script properties, never in a cell or
 * in this text), makes the sheet and installs the triggers.
 *
 * A row is sent when its Send cell is ticked and its Status is empty. What became of it stands in Status, Intent and
 * Message; Ledger is the script's own note: leave it alone.
 *   SENDING, RETRY   no answer yet; tried again with the same key while it is young enough
 *   SENT             the engine has it; DUPLICATE: it had it before and made nothing of the repeat
 *   REFUSED          the engine says in Message what to mend
 *   BLOCKED          a kill switch is on; the row is not sent later by itself
 *   MISSED           it never arrived and is too old to be sent now
 * A row that was changed after it was sent is not sent again. Clear its Status to send it as a new signal; the same
 * content in the same row is one signal for the whole day, however often its Status is cleared.
 */
const ENGINE_URL = '__BASE_URL__';
const SOURCE_ID = '__SOURCE_ID__';
const SHEET_NAME = 'Signals';
/** A row that was not delivered so many seconds after its first try is not sent any more. */
const MAX_AGE_S = 60;
const ATTEMPTS = 4;
/** Google ends a run after six minutes; what is left is sent by the next one. */
const RUN_LIMIT_MS = 240000;
const ROWS_A_CALL = 200;

const FIELDS = [
  'symbol', 'exchange', 'transactionType', 'quantity', 'price', 'triggerPrice', 'orderType', 'productType',
  'validity', 'variety', 'stopLoss', 'target', 'exits', 'positionSize', 'marketProtection',
];
const OWN = ['Send', 'Status', 'Intent', 'Message', 'Ledger'];
const FIRST_COLUMNS = FIELDS.slice(0, 8).concat(['stopLoss', 'target'], OWN);
const HANDLERS = ['engineEdited', 'engineSend', 'engineReconcile'];
const UNANSWERED = ['SENDING', 'RETRY'];
const DELIVERED = ['SENT', 'DUPLICATE'];

// ---------------------------------------------------------------------------------------------- for people

function onOpen() {
  SpreadsheetApp.getUi().createMenu('Engine')
    .addItem('Connect', 'engineConnect')
    .addItem('Send now', 'engineSend')
    .addItem('Ask what arrived', 'engineReconcile')
    .addToUi();
}

/** Asks for the keys, which the engine showed when the source was made or rotated, and installs everything. */
function engineConnect() {
  const ui = SpreadsheetApp.getUi();
  const questions = [['ENGINE_API_KEY', 'API key of the source (src_...)'], ['ENGINE_SECRET', 'Secret of the source']];
  for (const [name, question] of questions) {
    const answer = ui.prompt(question, ui.ButtonSet.OK_CANCEL);
    if (answer.getSelectedButton() !== ui.Button.OK) return;
    PropertiesService.getScriptProperties().setProperty(name, answer.getResponseText().trim());
  }
  engineInstall();
}

/** Makes the sheet if it is not there and sets the triggers, each once. */
function engineInstall() {
  const book = SpreadsheetApp.getActiveSpreadsheet();
  if (book.getSheetByName(SHEET_NAME) === null) {
    book.insertSheet(SHEET_NAME).getRange(1, 1, 1, FIRST_COLUMNS.length).setValues([FIRST_COLUMNS]);
  }
  for (const trigger of ScriptApp.getProjectTriggers()) {
    if (HANDLERS.indexOf(trigger.getHandlerFunction()) >= 0) ScriptApp.deleteTrigger(trigger);
  }
  ScriptApp.newTrigger('engineEdited').forSpreadsheet(book).onEdit().create();
  ScriptApp.newTrigger('engineSend').timeBased().everyMinutes(1).create();
  ScriptApp.newTrigger('engineReconcile').timeBased().everyMinutes(5).create();
}

// -------------------------------------------------------------------------------------------------- triggers

/** After every edit of the sheet. */
function engineEdited(event) {
  if (event.range.getSheet().getName() === SHEET_NAME) engineSend();
}

/** Sends what is ready. */
function engineSend() {
  withLock_(sendRows_);
}

/** Asks the engine which of today's rows it never took in, and says that this sheet is alive. */
function engineReconcile() {
  withLock_(function () {
    reconcile_();
    sendRows_();
    beat_();
  });
}

/** Two runs at once would both see an empty Status: the second waits, and leaves the rows to the first if it must. */
function withLock_(work) {
  const lock = LockService.getScriptLock();
  if (!lock.tryLock(10000)) return;
  try {
    work();
  } finally {
    SpreadsheetApp.flush();
    lock.releaseLock();
  }
}

// --------------------------------------------------------------------------------------------------- sending

function sendRows_() {
  const end = Date.now() + RUN_LIMIT_MS;
  // each time rows moved under the script it begins again with the sheet as it is then
  for (let again = 0; again < 20; again++) {
    const table = readTable_();
    const is_done = table.rows.every(function (row) {
      if (!isTicked_(row.send)) return true;
      if (Date.now() > end || !isThere_(table, row)) return false;
      sendRow_(table, row);
      return true;
    });
    if (is_done || Date.now() > end) return;
  }
}

/** Whether the row still stands where it was read: somebody may have sorted or inserted rows since. */
function isThere_(table, row) {
  const cells = table.sheet.getRange(row.number, 1, 1, row.values.length).getValues()[0];
  return JSON.stringify(cells) === JSON.stringify(row.values);
}

function sendRow_(table, row) {
  const body = body_(table, row);
  const hash = sha256_(body);
  const today = Utilities.formatDate(new Date(), 'Asia/Kolkata', 'yyyy-MM-dd');
  const is_same = row.ledger !== null && row.ledger.sha === hash && row.ledger.day === today;
  if (row.status === '' || (UNANSWERED.indexOf(row.status) >= 0 && row.ledger === null)) {
    const place = [table.book, table.sheet.getSheetId(), row.number, today, body].join('|');
    const entry = {
      key: is_same ? row.ledger.key : 'gs-' + sha256_(place),
      sha: hash,
      day: today,
      at: Date.now(),
      seq: nextNumber_(),
    };
    // written before it is sent: a run that dies on the way leaves the key behind, and the next one uses it again
    write_(table, row.number, { Status: 'SENDING', Intent: '', Message: '', Ledger: JSON.stringify(entry) });
    SpreadsheetApp.flush();
    deliver_(table, row, entry, body, false);
  } else if (UNANSWERED.indexOf(row.status) >= 0) {
    // too old, or changed on the way: whether it arrived is asked, it is not sent blindly
    if (row.ledger.sha === hash && isYoung_(row.ledger)) deliver_(table, row, row.ledger, body, true);
  } else if (row.ledger !== null && row.ledger.sha !== hash) {
    const text = 'Changed after it was ' + row.status + ': clear Status to send it as a new signal';
    if (row.message !== text) write_(table, row.number, { Message: text });
  }
}

function deliver_(table, row, entry, body, is_again) {
  let message = '';
  let wait_ms = 0;
  // after a try without a clear answer only the engine knows whether it has the row
  let is_unsure = is_again;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (attempt) Utilities.sleep(Math.max(wait_ms, 1000 * Math.pow(2, attempt - 1)));
    if (!isYoung_(entry)) break;
    wait_ms = 0;
    let answer;
    try {
      answer = post_('/signals/sheets/webhook', body, { 'Idempotency-Key': entry.key, 'X-Sequence': String(entry.seq) });
    } catch (error) {
      message = 'no answer: ' + error;
      is_unsure = true;
      continue;
    }
    if (answer.code >= 200 && answer.code < 300) {
      // a repeat after an answer that was lost is the row's own first try
      const is_repeat = answer.data.duplicate && !is_unsure;
      const intent = answer.data.intentId;
      finish_(table, row, entry, is_repeat ? 'DUPLICATE' : 'SENT', intent, answer.data.reason || '');
      return;
    }
    message = answer.code + ' ' + answer.error.code + ': ' + answer.error.message;
    if (answer.error.code === 'KILL_SWITCH') {
      finish_(table, row, entry, 'BLOCKED', '', message);
      return;
    }
    if (answer.error.code === 'SIGNED_MESSAGE_REUSED') {
      wait_ms = 1100; // signed anew in the next second
    } else if (answer.code === 429 || answer.code >= 500) {
      wait_ms = 1000 * Math.min(answer.retry_after, 10);
      is_unsure = is_unsure || answer.code >= 500;
    } else if (is_unsure) {
      break;
    } else {
      finish_(table, row, entry, 'REFUSED', '', message);
      return;
    }
  }
  finish_(table, row, entry, 'RETRY', '', message);
}

// ------------------------------------------------------------------------------------------- what never came

function reconcile_() {
  const table = readTable_();
  const today = Utilities.formatDate(new Date(), 'Asia/Kolkata', 'yyyy-MM-dd');
  const sent = table.rows.filter(function (row) {
    return row.ledger !== null && row.ledger.day === today && DELIVERED.concat(UNANSWERED).indexOf(row.status) >= 0;
  });
  for (let from = 0; from < sent.length; from += ROWS_A_CALL) {
    const rows = sent.slice(from, from + ROWS_A_CALL);
    const said = rows.map(function (row) { return { key: row.ledger.key, sha256: row.ledger.sha }; });
    let answer;
    try {
      answer = post_('/signals/sheets/ledger', JSON.stringify({ rows: said }), {});
    } catch (error) {
      return; // asked again by the next run
    }
    if (answer.code !== 200) return;
    const taken = {};
    answer.data.taken.forEach(function (found) { taken[found.key] = found.intentId; });
    for (const row of rows) {
      const entry = row.ledger;
      if (answer.data.missing.indexOf(entry.key) >= 0) {
        const is_young = isYoung_(entry);
        const text = is_young ? 'never arrived: sent again' : 'never arrived: clear Status to send it now';
        finish_(table, row, entry, is_young ? 'RETRY' : 'MISSED', '', text);
      } else if (UNANSWERED.indexOf(row.status) >= 0) {
        finish_(table, row, entry, 'SENT', taken[entry.key], '');
      }
    }
  }
}

function beat_() {
  const is_waiting = readTable_().rows.some(function (row) { return UNANSWERED.indexOf(row.status) >= 0; });
  const last = PropertiesService.getScriptProperties().getProperty('ENGINE_SEQUENCE');
  const body = is_waiting || last === null ? '{}' : JSON.stringify({ lastSequence: Number(last) });
  try {
    post_('/signals/heartbeat/' + SOURCE_ID, body, {});
  } catch (error) {
    // silence is what the engine notices by itself
    console.warn('no answer to the heartbeat: ' + error);
  }
}

// ------------------------------------------------------------------------------------------------- the engine

function post_(path, body, headers) {
  const properties = PropertiesService.getScriptProperties();
  const key = properties.getProperty('ENGINE_API_KEY');
  const secret = properties.getProperty('ENGINE_SECRET');
  if (!key || !secret) throw new Error('choose Engine > Connect first: the keys are not here yet');
  const timestamp = String(Math.floor(Date.now() / 1000));
  const signature = Utilities.computeHmacSha256Signature(timestamp + '.' + body, secret, Utilities.Charset.UTF_8);
  const all = Object.assign({ 'X-API-Key': key, 'X-Timestamp': timestamp, 'X-Signature': hex_(signature) }, headers);
  const response = UrlFetchApp.fetch(ENGINE_URL + '/api/v1' + path, {
    method: 'post',
    contentType: 'application/json',
    payload: body,
    headers: all,
    muteHttpExceptions: true,
    followRedirects: false,
  });
  let content = {};
  try {
    content = JSON.parse(response.getContentText());
  } catch (error) {
    // a proxy's page: the status says enough
  }
  const sent = response.getHeaders();
  return {
    code: response.getResponseCode(),
    data: content.data || {},
    error: content.error || { code: 'HTTP', message: 'no answer of the engine' },
    retry_after: Number(sent['Retry-After'] || sent['retry-after'] || 0),
  };
}

/** The row as the engine reads it, in plain ASCII: what is signed and what is sent are then the same bytes. */
function body_(table, row) {
  const found = {};
  for (const name of FIELDS) {
    const value = name in table.columns ? row.values[table.columns[name]] : '';
    if (value === '') continue;
    found[name] = typeof value === 'number' ? tidy_(value) : String(value).trim();
  }
  return JSON.stringify(found).replace(/[\u007f-\uffff]/g, function (character) {
    return '\\u' + ('000' + character.charCodeAt(0).toString(16)).slice(-4);
  });
}

/** A formula's 815.0500000000001 means 815.05; what is further off than that is left for the engine to refuse. */
function tidy_(number) {
  const rounded = Math.round(number * 10000) / 10000;
  return Math.abs(number - rounded) < 1e-8 ? rounded : number;
}

function sha256_(text) {
  return hex_(Utilities.computeDigest(Utilities.DigestAlgorithm.SHA_256, text, Utilities.Charset.UTF_8));
}

/** Google's bytes run from -128 to 127. */
function hex_(bytes) {
  return bytes.map(function (byte) { return ('0' + (byte & 0xff).toString(16)).slice(-2); }).join('');
}

// --------------------------------------------------------------------------------------------------- the sheet

function readTable_() {
  const book = SpreadsheetApp.getActiveSpreadsheet();
  const sheet = book.getSheetByName(SHEET_NAME);
  if (sheet === null) throw new Error('there is no sheet "' + SHEET_NAME + '": choose Engine > Connect');
  const values = sheet.getDataRange().getValues();
  const columns = {};
  values[0].forEach(function (title, place) {
    const plain = plain_(title);
    FIELDS.concat(OWN).forEach(function (name) { if (plain_(name) === plain) columns[name] = place; });
  });
  for (const name of OWN) {
    if (!(name in columns)) throw new Error('the column "' + name + '" is missing in the first row');
  }
  const rows = values.slice(1).map(function (cells, place) {
    return {
      number: place + 2,
      values: cells,
      send: cells[columns.Send],
      status: String(cells[columns.Status]).trim(),
      message: String(cells[columns.Message]),
      ledger: entry_(cells[columns.Ledger]),
    };
  });
  return { book: book.getId(), sheet: sheet, columns: columns, rows: rows };
}

function plain_(title) {
  return String(title).toLowerCase().replace(/[^a-z]/g, '');
}

function isTicked_(value) {
  return value === true || /^(true|yes|send|x|1)$/i.test(String(value).trim());
}

function isYoung_(entry) {
  return Date.now() - entry.at <= MAX_AGE_S * 1000;
}

function entry_(cell) {
  try {
    const entry = JSON.parse(cell);
    return entry !== null && typeof entry === 'object' && entry.key ? entry : null;
  } catch (error) {
    return null;
  }
}

function nextNumber_() {
  const properties = PropertiesService.getScriptProperties();
  const next = Number(properties.getProperty('ENGINE_SEQUENCE') || 0) + 1;
  properties.setProperty('ENGINE_SEQUENCE', String(next));
  return next;
}

function finish_(table, row, entry, status, intent, message) {
  const number = whereIs_(table, row.number, entry.key);
  if (number === 0) {
    console.error('the row of ' + entry.key + ' is gone; it was ' + status + ' ' + message);
    return;
  }
  write_(table, number, { Status: status, Intent: intent, Message: message });
}

/** Somebody may have sorted or inserted rows while the engine was asked: the key tells which row it is now. */
function whereIs_(table, number, key) {
  const column = table.columns.Ledger + 1;
  const there = entry_(table.sheet.getRange(number, column).getValue());
  if (there !== null && there.key === key) return number;
  const all = table.sheet.getDataRange().getValues();
  for (let place = 1; place < all.length; place++) {
    const entry = entry_(all[place][column - 1]);
    if (entry !== null && entry.key === key) return place + 1;
  }
  return 0;
}

function write_(table, number, cells) {
  for (const name of Object.keys(cells)) {
    table.sheet.getRange(number, table.columns[name] + 1).setValue(cell_(cells[name]));
  }
}

/** Text of others must not become a formula of this sheet. */
function cell_(text) {
  return /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
}
