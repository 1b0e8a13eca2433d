// Command load is both ends of a measurement of proxies: a server that gives back what it gets, and an open-loop client.
//
// The client sends each request when it is due, whether or not earlier ones have been answered, and counts its delay
// from that time: a proxy that stalls cannot hide it. What it found is one line of JSON.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// found is what the client tells.
type found struct {
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Why      string  `json:"why"`
	Late     int     `json:"late"` // sent more than 5 ms after they were due: the machine had no more to give
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
}

const late = 5 * time.Millisecond

// one is what became of a request.
type one struct {
	delay time.Duration
	late  bool
	err   error
}

func main() {
	serve := flag.String("serve", "", "address to listen at; the program is the server then")
	url := flag.String("url", "", "what to ask")
	rate := flag.Float64("rate", 500, "requests per second")
	seconds := flag.Float64("seconds", 8, "for how long")
	size := flag.Int("bytes", 1024, "of the body of each request, and of its answer")
	connections := flag.Int("connections", 16, "at most so many, all kept")
	flag.Parse()
	if *serve != "" {
		fmt.Fprintln(os.Stderr, "load:", http.ListenAndServe(*serve, http.HandlerFunc(echo)))
		os.Exit(1)
	}
	transport := &http.Transport{
		MaxConnsPerHost: *connections, MaxIdleConnsPerHost: *connections, DisableCompression: true,
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	made := ask(client, *url, make([]byte, *size), *rate, int(*rate**seconds))
	if err := json.NewEncoder(os.Stdout).Encode(summary(made)); err != nil {
		os.Exit(1)
	}
}

// echo gives the request's body back.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = w.Write(body)
}

// ask sends count requests, each at its own time.
func ask(client *http.Client, url string, body []byte, rate float64, count int) []one {
	made := make([]one, count)
	var waiting sync.WaitGroup
	start := time.Now().Add(100 * time.Millisecond)
	for i := range made {
		due := start.Add(time.Duration(float64(i) / rate * 1e9))
		time.Sleep(time.Until(due))
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			behind := time.Since(due) > late
			err := once(client, url, body)
			made[i] = one{delay: time.Since(due), late: behind, err: err}
		}()
	}
	waiting.Wait()
	return made
}

// once sends a request and reads its answer, which has to be its body.
func once(client *http.Client, url string, body []byte) error {
	answer, err := client.Post(url, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	back, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || len(back) != len(body)) {
		err = fmt.Errorf("status %d with %d bytes", answer.StatusCode, len(back))
	}
	return err
}

func summary(made []one) found {
	told := found{Requests: len(made)}
	delays := make([]float64, 0, len(made))
	for _, each := range made {
		delays = append(delays, float64(each.delay.Microseconds())/1000)
		if each.late {
			told.Late++
		}
		if each.err != nil {
			told.Failed++
			told.Why = each.err.Error()
		}
	}
	slices.Sort(delays)
	if count := len(delays); count > 0 {
		told.P50, told.P99, told.Max = delays[count/2], delays[count*99/100], delays[count-1]
	}
	return told
}
