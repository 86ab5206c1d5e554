package channel

// Command is what a stream for a command begins with: a program to run in the
// guest.
type Command struct {
	Args  []string `json:"args"`
	Input []byte   `json:"input,omitempty"`
}

// Result is what the stream ends with.
type Result struct {
	Output []byte `json:"output,omitempty"`
	Errors []byte `json:"errors,omitempty"`
	// Failure is empty for a program that ended with status 0.
	Failure string `json:"failure,omitempty"`
}
