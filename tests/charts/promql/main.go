// Reads PromQL as Prometheus does.
//
//	promql           takes an expression a line, and ends with 1 and Prometheus' own words at the first that it cannot parse
//	promql evaluate  takes an object of JSON: scrapes, and queries that are evaluated at the time of the last of them
//	promql scrape    takes an object of JSON: a configuration, and what was found; writes the targets of each job
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	answers := map[string]func(*json.Decoder, *json.Encoder) error{"evaluate": evaluate, "scrape": scrapes}
	if len(os.Args) > 1 {
		answer, known := answers[os.Args[1]]
		if !known {
			fmt.Fprintln(os.Stderr, "evaluate or scrape")
			os.Exit(1)
		}
		if err := answer(json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if _, err := parser.ParseExpr(lines.Text()); err != nil {
			fmt.Printf("%s: %v\n", lines.Text(), err)
			os.Exit(1)
		}
		fmt.Println("parsed")
	}
}
