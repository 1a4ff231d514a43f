// The broker's own Go client, as tests/support/clients.py drives it: settings come as the first line of standard input,
// REST calls as the others; all that the client gives goes out as JSON lines, and it ends with its input.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	kiteconnect "github.com/zerodha/gokiteconnect/v4"
	"github.com/zerodha/gokiteconnect/v4/models"
	kiteticker "github.com/zerodha/gokiteconnect/v4/ticker"
)

type settings struct {
	WS          string              `json:"ws"`
	API         string              `json:"api"`
	APIKey      string              `json:"api_key"`
	AccessToken string              `json:"access_token"`
	Modes       map[string][]uint32 `json:"modes"`
}

var (
	lock   sync.Mutex
	output = json.NewEncoder(os.Stdout)
	placed string // the order that was placed last
)

func write(kind string, value any) {
	lock.Lock()
	defer lock.Unlock()
	if err := output.Encode(map[string]any{kind: value}); err != nil {
		os.Exit(1)
	}
}

func answer(kite *kiteconnect.Client, name string, given []string) (any, error) {
	switch name {
	case "session":
		return kite.GenerateSession(given[0], given[1])
	case "profile":
		return kite.GetUserProfile()
	case "instruments":
		if len(given) > 0 {
			return kite.GetInstrumentsByExchange(given[0])
		}
		return kite.GetInstruments()
	case "margins":
		return kite.GetUserMargins()
	case "quote":
		return kite.GetQuote(given...)
	case "ohlc":
		return kite.GetOHLC(given...)
	case "ltp":
		return kite.GetLTP(given...)
	case "historical":
		return historical(kite, given)
	case "place":
		return place(kite, given)
	case "modify":
		params := kiteconnect.OrderParams{Quantity: int(number(given[0])), Price: number(given[1])}
		return kite.ModifyOrder("regular", placed, params)
	case "cancel":
		return kite.CancelOrder("regular", placed, nil)
	case "history":
		return kite.GetOrderHistory(placed)
	case "orders":
		return kite.GetOrders()
	case "trades":
		return kite.GetTrades()
	case "positions":
		return kite.GetPositions()
	case "holdings":
		return kite.GetHoldings()
	}
	return nil, errors.New("no such call: " + name)
}

func number(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		os.Exit(1)
	}
	return value
}

func historical(kite *kiteconnect.Client, given []string) (any, error) {
	from, err := time.Parse(time.DateTime, given[2])
	if err != nil {
		return nil, err
	}
	to, err := time.Parse(time.DateTime, given[3])
	if err != nil {
		return nil, err
	}
	return kite.GetHistoricalData(int(number(given[0])), given[1], from, to, false, true)
}

func place(kite *kiteconnect.Client, given []string) (any, error) {
	response, err := kite.PlaceOrder("regular", kiteconnect.OrderParams{
		Exchange:         given[0],
		Tradingsymbol:    given[1],
		TransactionType:  given[2],
		OrderType:        given[3],
		Quantity:         int(number(given[4])),
		Price:            number(given[5]),
		MarketProtection: number(given[6]),
		Product:          "MIS",
		Validity:         "DAY",
	})
	placed = response.OrderID
	return response, err
}

func call(kite *kiteconnect.Client, name string, given []string) {
	value, err := answer(kite, name, given)
	if err == nil {
		write("answer", map[string]any{"call": name, "value": value})
		return
	}
	refusal := map[string]any{"call": name, "message": err.Error()}
	var typed kiteconnect.Error
	if errors.As(err, &typed) {
		refusal["error_type"] = typed.ErrorType
	}
	write("refusal", refusal)
}

func main() {
	input := bufio.NewReader(os.Stdin)
	line, err := input.ReadBytes('\n')
	if err != nil {
		os.Exit(1)
	}
	var given settings
	if err := json.Unmarshal(line, &given); err != nil {
		os.Exit(1)
	}
	root, err := url.Parse(given.WS)
	if err != nil {
		os.Exit(1)
	}

	kite := kiteconnect.New(given.APIKey)
	kite.SetBaseURI(given.API)
	kite.SetAccessToken(given.AccessToken)

	ticker := kiteticker.New(given.APIKey, given.AccessToken)
	ticker.SetRootURL(*root)
	ticker.SetAutoReconnect(false)
	ticker.OnConnect(func() {
		for mode, tokens := range given.Modes {
			if ticker.Subscribe(tokens) != nil || ticker.SetMode(kiteticker.Mode(mode), tokens) != nil {
				write("failure", "it cannot subscribe")
			}
		}
	})
	ticker.OnMessage(func(kind int, message []byte) {
		if kind == 2 && len(message) > 2 {
			write("frame", base64.StdEncoding.EncodeToString(message))
		}
	})
	ticker.OnTick(func(tick models.Tick) { write("tick", tick) })
	ticker.OnOrderUpdate(func(order kiteconnect.Order) { write("order", order) })
	// An error's text would hold the address, and the token.
	ticker.OnError(func(error) { write("failure", "the socket failed") })
	ticker.OnClose(func(int, string) { os.Exit(0) })
	go func() {
		for lines := bufio.NewScanner(input); lines.Scan(); {
			var one []string
			if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
				os.Exit(1)
			}
			call(kite, one[0], one[1:])
		}
		_ = ticker.Close()
	}()
	ticker.Serve()
}
