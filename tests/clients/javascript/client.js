// The broker's own JavaScript client, as tests/support/clients.py drives it: settings come as the first line of standard
// input, REST calls as the others; all that the client gives goes out as JSON lines, and it ends with its input.

'use strict';
const readline = require('readline');
const { KiteConnect, KiteTicker } = require('kiteconnect');

let placed = null; // the order that was placed last

const CALLS = {
  session: (kite, token, secret) => kite.generateSession(token, secret),
  profile: (kite) => kite.getProfile(),
  instruments: (kite, exchange) => kite.getInstruments(exchange && [exchange]),
  margins: (kite) => kite.getMargins(),
  quote: (kite, ...names) => kite.getQuote(names),
  ohlc: (kite, ...names) => kite.getOHLC(names),
  ltp: (kite, ...names) => kite.getLTP(names),
  historical: (kite, token, interval, from, to) => kite.getHistoricalData(token, interval, from, to, false, true),
  place: async (kite, exchange, tradingsymbol, transaction_type, order_type, quantity, price, market_protection) => {
    const params = { exchange, tradingsymbol, transaction_type, order_type, quantity, product: 'MIS', validity: 'DAY' };
    if (Number(price)) params.price = Number(price);
    if (Number(market_protection)) params.market_protection = Number(market_protection);
    const answer = await kite.placeOrder('regular', params);
    placed = answer.order_id;
    return answer;
  },
  modify: (kite, quantity, price) => kite.modifyOrder('regular', placed, { quantity, price: Number(price) }),
  cancel: (kite) => kite.cancelOrder('regular', placed),
  history: (kite) => kite.getOrderHistory(placed),
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

function subscribe(settings) {
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

async function main() {
  let kite = null;
  let ticker = null;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const given = JSON.parse(line);
    if (kite) {
      await call(kite, given);
    } else {
      kite = new KiteConnect({ api_key: given.api_key, access_token: given.access_token, root: given.api });
      ticker = subscribe(given);
    }
  }
  ticker.disconnect();
}

main();
