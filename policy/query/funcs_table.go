package query

// A function is a function of JMESPath. Each string of args lists the types
// that one argument may have: b boolean, n number, s string, a array, o object,
// z null, x expression, N array of numbers, S array of strings, * any value.
type function struct {
	name     string
	args     []string
	variadic bool // the last argument may repeat
	call     func(m *Meter, args []any) (any, error)
}

// functionNamed returns the function of that name, or nil. The list is that of
// the JMESPath specification and equals_ignore_case, which Azure Attestation adds.
func functionNamed(name string) *function {
	for i := range functions {
		if functions[i].name == name {
			return &functions[i]
		}
	}
	return nil
}

var functions = [...]function{
	{"abs", []string{"n"}, false, fnAbs},
	{"avg", []string{"N"}, false, fnAvg},
	{"ceil", []string{"n"}, false, fnCeil},
	{"contains", []string{"sa", "*"}, false, fnContains},
	{"ends_with", []string{"s", "s"}, false, fnEndsWith},
	{"equals_ignore_case", []string{"*", "*"}, false, fnEqualsIgnoreCase},
	{"floor", []string{"n"}, false, fnFloor},
	{"join", []string{"s", "S"}, false, fnJoin},
	{"keys", []string{"o"}, false, fnKeys},
	{"length", []string{"sao"}, false, fnLength},
	{"map", []string{"x", "a"}, false, fnMap},
	{"max", []string{"NS"}, false, fnMax},
	{"max_by", []string{"a", "x"}, false, fnMaxBy},
	{"merge", []string{"o"}, true, fnMerge},
	{"min", []string{"NS"}, false, fnMin},
	{"min_by", []string{"a", "x"}, false, fnMinBy},
	{"not_null", []string{"*"}, true, fnNotNull},
	{"reverse", []string{"sa"}, false, fnReverse},
	{"sort", []string{"NS"}, false, fnSort},
	{"sort_by", []string{"a", "x"}, false, fnSortBy},
	{"starts_with", []string{"s", "s"}, false, fnStartsWith},
	{"sum", []string{"N"}, false, fnSum},
	{"to_array", []string{"*"}, false, fnToArray},
	{"to_number", []string{"*"}, false, fnToNumber},
	{"to_string", []string{"*"}, false, fnToString},
	{"type", []string{"*"}, false, fnType},
	{"values", []string{"o"}, false, fnValues},
}
