// Reads PromQL, an expression a line, and ends with 1 and Prometheus' own words at the first that it cannot parse.
package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if _, err := parser.ParseExpr(lines.Text()); err != nil {
			fmt.Printf("%s: %v\n", lines.Text(), err)
			os.Exit(1)
		}
		fmt.Println("parsed")
	}
}
