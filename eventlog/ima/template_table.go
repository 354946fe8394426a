package ima

import "strings"

// legacyTemplate is the original template: a SHA-1 digest and a name, without lengths.
const legacyTemplate = "ima"

// templates are the named ones of security/integrity/ima/ima_template.c.
var templates = [...]struct{ name, fields string }{
	{"ima-ng", "d-ng|n-ng"},
	{"ima-sig", "d-ng|n-ng|sig"},
	{"ima-ngv2", "d-ngv2|n-ng"},
	{"ima-sigv2", "d-ngv2|n-ng|sig"},
	{"ima-buf", "d-ng|n-ng|buf"},
	{"ima-modsig", "d-ng|n-ng|sig|d-modsig|modsig"},
	{"evm-sig", "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode"},
	{legacyTemplate, "d|n"},
}

// knownFields are what a template can be made of.
const knownFields = "|d|n|d-ng|d-ngv2|n-ng|sig|d-modsig|modsig|buf|evmsig|iuid|igid|imode|xattrnames|xattrlengths|xattrvalues|"

// maxFields is IMA_TEMPLATE_NUM_FIELDS_MAX.
const maxFields = 15

// fieldsOf returns the fields of a template, by its name or, when the kernel was
// given a format instead of a name, from the format itself.
func fieldsOf(template string) (fields []string, known bool) {
	for _, t := range templates {
		if t.name == template {
			return strings.Split(t.fields, "|"), true
		}
	}
	if strings.Count(template, "|") >= maxFields {
		return nil, false
	}
	fields = strings.Split(template, "|")
	for _, f := range fields {
		if f == "" || !strings.Contains(knownFields, "|"+f+"|") {
			return nil, false
		}
	}
	return fields, true
}
