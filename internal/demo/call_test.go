package demo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestOnlyUndecidedAnswersAreRepeated(t *testing.T) {
	repeated := map[codes.Code]bool{
		codes.Unavailable: true, codes.Aborted: true, codes.DeadlineExceeded: true, codes.Canceled: true,
	}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if got := repeatable(status.Error(code, "x")); got != repeated[code] && code != codes.OK {
			t.Errorf("%v: repeated %v, want %v", code, got, repeated[code])
		}
	}
}

// quick is a patience for tests.
func quick() patience {
	return patience{attempt: time.Second, first: time.Millisecond, most: 2 * time.Millisecond}
}

func TestRepeat(t *testing.T) {
	unavailable, final := status.Error(codes.Unavailable, "away"), status.Error(codes.Internal, "broken")
	tests := []struct {
		name    string
		answers []error
		calls   int
		fails   string
	}{
		{"a success is not repeated", []error{nil}, 1, ""},
		{"an undecided answer is repeated until it is decided", []error{unavailable, unavailable, nil}, 3, ""},
		{"a final answer ends it and names the method", []error{unavailable, final}, 2, "Method: rpc error: code = Internal desc = broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls, told := 0, 0
			p := quick()
			p.repeats = func(string, error) { told++ }
			got, err := repeat(t.Context(), p, "Method", func(context.Context) (int, error) {
				calls++
				return calls, tt.answers[calls-1]
			})
			if calls != tt.calls || told != tt.calls-1 {
				t.Errorf("%d calls, %d told as repeated, want %d", calls, told, tt.calls)
			}
			if tt.fails == "" && (err != nil || got != tt.calls) {
				t.Errorf("got %d, %v", got, err)
			}
			if tt.fails != "" && (err == nil || err.Error() != tt.fails) {
				t.Errorf("got %v, want %s", err, tt.fails)
			}
		})
	}
}

func TestACallThatNeverSucceedsTellsTheLastAnswer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := repeat(ctx, quick(), "Method", func(context.Context) (int, error) {
		return 0, status.Error(codes.Aborted, "busy")
	})
	if err == nil || !strings.Contains(err.Error(), "Method: no success in time") || !strings.Contains(err.Error(), "busy") {
		t.Errorf("got %v", err)
	}
}

func TestAnInterruptedCallTellsTheCause(t *testing.T) {
	cause := errors.New("interrupt")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := repeat(ctx, quick(), "Method", func(ctx context.Context) (int, error) {
		cancel(cause)
		<-ctx.Done()
		return 0, status.FromContextError(ctx.Err()).Err()
	})
	if !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause", err)
	}
	if !interrupted(ctx, err) {
		t.Error("not taken for an interruption")
	}
}

func TestAFailureOfTheDemoItselfIsNoInterruption(t *testing.T) {
	cause := &RunError{Err: errors.New("controller does not stay up")}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if interrupted(ctx, cause) {
		t.Error("taken for an interruption")
	}
}

func TestAnAttemptEndsWithItsOwnTime(t *testing.T) {
	p := quick()
	p.attempt = 5 * time.Millisecond
	calls := 0
	_, err := repeat(t.Context(), p, "Method", func(ctx context.Context) (int, error) {
		if calls++; calls == 1 {
			<-ctx.Done()
			return 0, status.FromContextError(ctx.Err()).Err()
		}
		return 1, nil
	})
	if err != nil || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
