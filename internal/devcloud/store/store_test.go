package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type row struct{ N int }

func open(t *testing.T, path string, tables ...*store.Table[row]) *store.DB {
	t.Helper()
	var db *store.DB
	var err error
	switch len(tables) {
	case 1:
		db, err = store.Open(path, tables[0])
	case 2:
		db, err = store.Open(path, tables[0], tables[1])
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestRecordsAreThereAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "x.db")
	table := store.NewTable[row]("rows")
	db := open(t, path, table)
	if err := db.Update(func() error {
		table.Put("a", row{1})
		table.Put("b", row{2})
		table.Delete("b")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func() error { table.Put("c", row{3}); return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("update after close: %v", err)
	}
	again := store.NewTable[row]("rows")
	var announced []string
	again.OnChange(func(id string, before, after *row) { announced = append(announced, fmt.Sprint(id, before, *after)) })
	open(t, path, again)
	if got, ok := again.Get("a"); !ok || got.N != 1 || again.Len() != 1 {
		t.Errorf("%v %v %d", got, ok, again.Len())
	}
	if strings.Join(announced, ",") != "a<nil> {1}" {
		t.Errorf("announced %v", announced)
	}
}

func TestAFailedUpdateChangesNothing(t *testing.T) {
	one, two := store.NewTable[row]("one"), store.NewTable[row]("two")
	db := open(t, filepath.Join(t.TempDir(), "x.db"), one, two)
	if err := db.Update(func() error { one.Put("a", row{1}); return nil }); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	changes := 0
	one.OnChange(func(string, *row, *row) { changes++ })
	err := db.Update(func() error {
		one.Put("a", row{9})
		two.Put("b", row{9})
		if got, _ := one.Get("a"); got.N != 9 {
			t.Errorf("an update does not see itself: %v", got)
		}
		seen := 0
		one.Each(func(*row) bool { seen++; return true })
		if seen != 1 {
			t.Errorf("saw %d records", seen)
		}
		return refused
	})
	if !errors.Is(err, refused) || changes != 0 {
		t.Errorf("%v, %d changes", err, changes)
	}
	if got, _ := one.Get("a"); got.N != 1 || two.Len() != 0 {
		t.Errorf("%v %d", got, two.Len())
	}
}

func TestASecondOwnerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	open(t, path, store.NewTable[row]("rows"))
	if db, err := store.Open(path, store.NewTable[row]("rows")); err == nil {
		_ = db.Close()
		t.Error("opened twice")
	}
}

func TestUpdatesDoNotGetLostAmongMany(t *testing.T) {
	table := store.NewTable[row]("rows")
	db := open(t, filepath.Join(t.TempDir(), "x.db"), table)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				if err := db.Update(func() error {
					r, _ := table.Get("n")
					r.N++
					table.Put("n", r)
					return nil
				}); err != nil {
					t.Error(err)
				}
				db.View(func() { table.Get("n") })
			}
		})
	}
	wg.Wait()
	if got, _ := table.Get("n"); got.N != 1000 {
		t.Errorf("counted %d", got.N)
	}
}

func BenchmarkUpdate(b *testing.B) {
	table := store.NewTable[row]("rows")
	db, err := store.Open(filepath.Join(b.TempDir(), "x.db"), table)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if err := db.Update(func() error { table.Put(strconv.Itoa(i%1000), row{i}); return nil }); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}
