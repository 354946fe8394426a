package varstore_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/varstore"
)

// stores are the recorded ones, without the ends of their names.
var stores = []string{"own-keys", "own-keys-after-first-boot"}

func TestAStoreAsJSONIsTheSameStore(t *testing.T) {
	t.Parallel()
	for _, name := range stores {
		s := parse(t, recorded(t, name+".fd.gz"))
		text, err := varstore.JSON(s.All())
		if err != nil {
			t.Fatal(err)
		}
		got, err := varstore.ParseJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(all(s), got); d != "" {
			t.Errorf("%s: variables (-want +got):\n%s", name, d)
		}
		made := varstore.New(s.Layout())
		for _, v := range got {
			if err := made.Set(v); err != nil {
				t.Fatal(err)
			}
		}
		again, err := varstore.JSON(made.All())
		if err != nil || !bytes.Equal(again, text) {
			t.Errorf("%s: the store made of the text has another text: %v", name, err)
		}
	}
}

// What virt-fw-vars wrote of a store is what is read of that store here.
func TestVirtFirmwareReadsAStoreTheSame(t *testing.T) {
	t.Parallel()
	for _, name := range stores {
		s := parse(t, recorded(t, name+".fd.gz"))
		theirs, err := varstore.ParseJSON(recorded(t, name+".virt-fw-vars.json.gz"))
		if err != nil {
			t.Fatal(err)
		}
		byName := func(a, b varstore.Variable) int { // theirs are in another order
			return strings.Compare(a.Vendor.String()+a.Name, b.Vendor.String()+b.Name)
		}
		if d := cmp.Diff(slices.SortedFunc(s.All(), byName), slices.SortedFunc(slices.Values(theirs), byName)); d != "" {
			t.Errorf("%s: ours and theirs (-ours +theirs):\n%s", name, d)
		}
	}
}

// document is a text with one variable, whose members are given.
func document(members string) string {
	return fmt.Sprintf(`{"version": 2, "variables": [{%s}]}`, members)
}

const (
	someName = `"name": "PK"`
	someGUID = `"guid": "8be4df61-93ca-11d2-aa0d-00e098032b8c"`
	someRest = `"attr": 39, "data": "00ff"`
)

func TestTextsThatAreNoStoresAreRefused(t *testing.T) {
	t.Parallel()
	whole := strings.Join([]string{someName, someGUID, someRest}, ", ")
	if v, err := varstore.ParseJSON([]byte(document(whole + `, "time": "ea070102030405000000000000000000"`))); err != nil || len(v) != 1 || v[0].Time.Year != 2026 || v[0].Time.Second != 5 {
		t.Fatalf("ParseJSON = %+v, %v", v, err)
	}
	if v, err := varstore.ParseJSON([]byte(document(whole + `, "time": ""`))); err != nil || !v[0].Time.IsZero() {
		t.Errorf("a time that is empty is %+v, %v", v, err)
	}
	one := "{" + whole + "}"
	for name, text := range map[string]string{
		"nothing":                    "",
		"no object":                  "[]",
		"more behind it":             document(whole) + "{}",
		"version 1":                  strings.Replace(document(whole), "2", "1", 1),
		"no version":                 `{"variables": []}`,
		"no list":                    `{"version": 2}`,
		"a member that is not known": `{"version": 2, "variables": [], "also": 1}`,
		"a member twice":             `{"version": 2, "version": 2, "variables": []}`,
		"a variable twice":           `{"version": 2, "variables": [` + one + "," + one + "]}",
		"too many variables":         `{"version": 2, "variables": [` + strings.Repeat(one+",", 1024) + one + "]}",
		"no name":                    document(someGUID + ", " + someRest),
		"no guid":                    document(someName + ", " + someRest),
		"no attributes":              document(someName + ", " + someGUID + `, "data": "00"`),
		"no data":                    document(someName + ", " + someGUID + `, "attr": 39`),
		"empty data":                 document(someName + ", " + someGUID + `, "attr": 39, "data": ""`),
		"half a byte":                document(someName + ", " + someGUID + `, "attr": 39, "data": "0"`),
		"data that is no text":       document(someName + ", " + someGUID + `, "attr": 39, "data": 0`),
		"data in base64":             document(someName + ", " + someGUID + `, "attr": 39, "data": "AP8="`),
		"volatile":                   document(someName + ", " + someGUID + `, "attr": 6, "data": "00"`),
		"attributes below zero":      document(someName + ", " + someGUID + `, "attr": -1, "data": "00"`),
		"attributes of 33 bits":      document(someName + ", " + someGUID + `, "attr": 4294967297, "data": "00"`),
		"a fraction":                 document(someName + ", " + someGUID + `, "attr": 39.5, "data": "00"`),
		"a guid that is none":        document(someName + `, "guid": "8be4df61", ` + someRest),
		"the zero guid":              document(someName + `, "guid": "00000000-0000-0000-0000-000000000000", ` + someRest),
		"a name with a NUL":          document(`"name": "P\u0000K", ` + someGUID + ", " + someRest),
		"a name of replacements":     document(`"name": "P\ufffdK", ` + someGUID + ", " + someRest),
		"a long name":                document(`"name": "` + strings.Repeat("n", 1025) + `", ` + someGUID + ", " + someRest),
		"half a time":                document(whole + `, "time": "ea0701"`),
		"a longer time":              document(whole + `, "time": "ea07010203040500000000000000000000"`),
		"a signer's digest":          document(whole + `, "digest": "00"`),
		"another member":             document(whole + `, "count": 1`),
		"a variable that is none":    `{"version": 2, "variables": [1]}`,
	} {
		if v, err := varstore.ParseJSON([]byte(text)); !errors.Is(err, varstore.ErrJSON) {
			t.Errorf("%s: ParseJSON = %v, %v, want ErrJSON", name, v, err)
		}
	}
	for n := range len(document(whole)) {
		if _, err := varstore.ParseJSON([]byte(document(whole)[:n])); !errors.Is(err, varstore.ErrJSON) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
}

func TestAVariableThatTheFormDoesNotCarryIsNotLeftOut(t *testing.T) {
	t.Parallel()
	good := varstore.Variable{Vendor: uefi.GlobalVariable, Name: "PK", Attributes: uefi.NonVolatile, Data: []byte{1}}
	for name, change := range map[string]func(*varstore.Variable){
		"a count of writes":    func(v *varstore.Variable) { v.Monotonic = 1 },
		"a name that is none":  func(v *varstore.Variable) { v.Name = "" },
		"a name with an error": func(v *varstore.Variable) { v.Name = "P\ufffd" },
	} {
		v := good
		change(&v)
		if text, err := varstore.JSON(slices.Values([]varstore.Variable{good, v})); !errors.Is(err, varstore.ErrJSON) {
			t.Errorf("%s: JSON = %s, %v", name, text, err)
		}
	}
	text, err := varstore.JSON(slices.Values([]varstore.Variable(nil)))
	if v, perr := varstore.ParseJSON(text); err != nil || perr != nil || len(v) != 0 {
		t.Errorf("an empty store: %s, %v, %v, %v", text, err, v, perr)
	}
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(document(strings.Join([]string{someName, someGUID, someRest, `"time": "ea070102030405000000000000000000"`}, ", "))))
	f.Add([]byte(`{"version": 2, "variables": []}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		variables, err := varstore.ParseJSON(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("%q is taken, and is no JSON", text)
		}
		out, err := varstore.JSON(slices.Values(variables))
		if err != nil {
			t.Fatal(err)
		}
		again, err := varstore.ParseJSON(out)
		if err != nil || !cmp.Equal(variables, again) {
			t.Fatalf("%s is read as %v, %v, and was %v", out, again, err, variables)
		}
	})
}
