package apiserver

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// exactNames refuses a member whose name the type of the request has in another
// case: encoding/json, and the library that checks requests, take "Roles" for
// "roles", and what stands between this service and a client may not.
func exactNames(body []byte, t reflect.Type) error {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	return namesIn(v, t)
}

func namesIn(v any, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if readsItself(t) {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		return namesOf(v, t)
	case []any:
		if t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
			return nil
		}
		for _, element := range v {
			if err := namesIn(element, t.Elem()); err != nil {
				return err
			}
		}
	}
	return nil
}

// readsItself reports whether values of t say what JSON they take.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func namesOf(object map[string]any, t reflect.Type) error {
	if t.Kind() == reflect.Map {
		for _, value := range object {
			if err := namesIn(value, t.Elem()); err != nil {
				return err
			}
		}
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	types := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		types[name] = f.Type
	}
	for name, value := range object {
		of, ok := types[name]
		if !ok {
			return fmt.Errorf("there is no member %q in this request", clip(name, 64))
		}
		if err := namesIn(value, of); err != nil {
			return err
		}
	}
	return nil
}
