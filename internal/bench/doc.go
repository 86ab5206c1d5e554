// Package bench measures what the driver costs, in requests, time and memory,
// against the development cloud, and compares it with what it may cost. It has
// benchmarks only: "make bench" runs them, and internal/node's, and prints a
// table of each. A row that is over its budget fails the run.
package bench
