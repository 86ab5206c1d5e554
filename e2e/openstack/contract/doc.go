// Package contract holds the development cloud to what a real OpenStack
// answers: one table of rows, run against both. A row sends what the driver
// sends, or what could be refused, and writes down all that a client can tell:
// status, headers, body, the order of states. Ids, times and addresses are
// replaced by names; the rest has to be equal, letter by letter.
//
// The real cloud's lines are kept in testdata with the versions they came from,
// so that the development cloud is held to them where no OpenStack runs, too.
package contract
