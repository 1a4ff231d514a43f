// The broker's own JavaScript client, as tests/support/clients.py drives it: settings come as the first line of standard
// input, all that the client gives goes out as JSON lines, and it ends with its input.

'use strict';
const readline = require('readline');
const { KiteConnect, KiteTicker } = require('kiteconnect');

const CALLS = {
  session: (kite, token, secret) => kite.generateSession(token, secret),
  profile: (kite) => kite.getProfile(),
  instruments: (kite, exchange) => kite.getInstruments(exchange && [exchange]),
  margins: (kite) => kite.getMargins(),
  quote: (kite, ...names) => kite.getQuote(names),
  ohlc: (kite, ...names) => kite.getOHLC(names),
  ltp: (kite, ...names) => kite.getLTP(names),
  orders: (kite) => kite.getOrders(),
  trades: (kite) => kite.getTrades(),
  positions: (kite) => kite.getPositions(),
  holdings: (kite) => kite.getHoldings(),
};

function write(kind, value) {
  process.stdout.write(JSON.stringify({ [kind]: value }) + '\n');
}

async function call(kite, [name, ...given]) {
  try {
    write('answer', { call: name, value: await CALLS[name](kite, ...given) });
  } catch (error) {
    write('refusal', { call: name, message: error.message, error_type: error.error_type });
  }
}

async function main(settings) {
  const kite = new KiteConnect({ api_key: settings.api_key, access_token: settings.access_token, root: settings.api });
  for (const one of settings.calls) await call(kite, one);

  const ticker = new KiteTicker({
    api_key: settings.api_key,
    access_token: settings.access_token,
    root: settings.ws,
    reconnect: false,
  });
  ticker.on('connect', () => {
    for (const [mode, tokens] of Object.entries(settings.modes)) {
      ticker.subscribe(tokens);
      ticker.setMode(mode, tokens);
    }
  });
  ticker.on('message', (frame) => frame.byteLength > 2 && write('frame', Buffer.from(frame).toString('base64')));
  ticker.on('ticks', (ticks) => ticks.forEach((tick) => write('tick', tick)));
  ticker.on('order_update', (order) => write('order', order));
  ticker.on('error', () => write('failure', 'the socket failed')); // its text would hold the address, and the token
  ticker.on('close', () => process.exit(0));
  ticker.connect();
  return ticker;
}

let ticker = null;
readline
  .createInterface({ input: process.stdin })
  .once('line', async (line) => {
    ticker = await main(JSON.parse(line));
  })
  .on('close', () => (ticker ? ticker.disconnect() : process.exit(1)));
