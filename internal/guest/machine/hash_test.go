package machine

import (
	"os"
	"testing"
)

func TestTheHashOfADiskIsThatOfItsContent(t *testing.T) {
	const size = 4 * mib
	create := func(size int64, at int64, content string) string {
		t.Helper()
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(content), at); err != nil {
			t.Fatal(err)
		}
		sum, err := hashOf(f)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	blank := create(size, 0, "")
	if create(size, mib+1, "\x00\x00") != blank {
		t.Error("zeros that are written and zeros that are not make a difference")
	}
	data := create(size, mib+1, "data")
	if create(size, mib+1, "data") != data {
		t.Error("the same content has two hashes")
	}
	for name, other := range map[string]string{
		"blank": blank, "data elsewhere": create(size, 2*mib+1, "data"), "data at another byte": create(size, mib+2, "data"),
		"other data": create(size, mib+1, "date"), "a larger disk": create(2*size, mib+1, "data"),
		"more data": create(size, mib+1, "data!"),
	} {
		if other == data {
			t.Errorf("no difference to %s", name)
		}
	}
}
