package keyprovider_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keyprovider/keyprovidertest"
	"github.com/assay-project/assay/internal/kmip"
	"github.com/assay-project/assay/internal/kmip/kmiptest"
	"github.com/assay-project/assay/internal/seal"
)

// kmipSpec is the spec of a key by its name.
func kmipSpec(address string, f kmiptest.Files, key, options string) string {
	return fmt.Sprintf("kmip://%s/?name=%s&ca=%s&cert=%s&key=%s%s", address, key, f.CA, f.ClientCert, f.ClientKey, options)
}

func TestPyKMIPPassesTheSuite(t *testing.T) {
	f := kmiptest.NewFiles(t)
	address := kmiptest.StartPyKMIP(t, f)
	env := environ(nil)
	for name, options := range map[string]string{"encrypt": "", "get": "&use=get"} {
		t.Run(name, func(t *testing.T) {
			spec := create(t, kmipSpec(address, f, "assay-"+name, options), env)
			other := create(t, kmipSpec(address, f, "other-"+name, options), env)
			keyprovidertest.Run(t, keyprovidertest.Subject{
				Env: env, Spec: spec, Other: other, Slow: true,
				Faulty: map[keyprovidertest.Fault]func(testing.TB) *keyprovider.Opened{
					keyprovidertest.Down: opener(strings.Replace(spec, address, nobody(t), 1), env),
				},
			})
		})
	}
}

// A server whose CA is not ours, or which does not take our certificate, is no server.
func TestKMIPNeedsBothSidesCertificates(t *testing.T) {
	f, stranger := kmiptest.NewFiles(t), kmiptest.NewFiles(t)
	ours := kmiptest.Start(t, f)
	env := environ(nil)
	spec := create(t, kmipSpec(ours.Address, f, "assay", ""), env)
	theirs := map[string]string{"ours": ours.Address}
	if kmiptest.HasPyKMIP(t) {
		theirs["PyKMIP"] = kmiptest.StartPyKMIP(t, f)
	}
	for server, address := range theirs {
		at := strings.Replace(spec, ours.Address, address, 1)
		for name, changed := range map[string]string{
			"another authority": strings.Replace(at, f.CA, stranger.CA, 1),
			"another client":    strings.NewReplacer(f.ClientCert, stranger.ClientCert, f.ClientKey, stranger.ClientKey).Replace(at),
		} {
			p := opener(changed, env)(t)
			if _, err := p.Wrap(t.Context(), seal.Context{}, seal.NewSecret(make([]byte, 32))); !errors.Is(err, keyprovider.ErrRefused) {
				t.Errorf("%s, %s: %v, want %v", server, name, err, keyprovider.ErrRefused)
			}
			p.Close()
		}
	}
	if _, err := keyprovider.OpenSpec(t.Context(), strings.Replace(spec, f.ClientKey, stranger.ClientKey, 1), env); !errors.Is(err, keyprovider.ErrRefused) {
		t.Errorf("a key that is not the certificate's: %v", err)
	}
}

// faultyKMIP opens a spec with a server that changes its answers for the time of one test.
func faultyKMIP(s *kmiptest.Server, spec string, env keyprovider.Env, answer func(kmip.Operation, []byte) []byte) func(testing.TB) *keyprovider.Opened {
	return func(t testing.TB) *keyprovider.Opened {
		s.SetAnswer(answer)
		t.Cleanup(func() { s.SetAnswer(nil) })
		return opener(spec, env)(t)
	}
}

func TestKMIPPassesTheSuiteInEveryVersion(t *testing.T) {
	for _, version := range kmip.Versions() {
		for _, use := range []string{"encrypt", "get"} {
			if use == "get" && version.Minor > 2 {
				continue // which fetches keys as 1.2 does
			}
			t.Run(version.String()+" "+use, func(t *testing.T) {
				f := kmiptest.NewFiles(t)
				s := kmiptest.Start(t, f)
				s.Versions = []kmip.Version{version}
				env := environ(nil)
				spec := create(t, kmipSpec(s.Address, f, "assay", "&use="+use), env)
				other := create(t, kmipSpec(s.Address, f, "other", "&use="+use), env)
				keyprovidertest.Run(t, keyprovidertest.Subject{Env: env, Spec: spec, Other: other, Slow: true, Faulty: kmipFaults(t, s, spec, env)})
			})
		}
	}
}

func kmipFaults(t *testing.T, s *kmiptest.Server, spec string, env keyprovider.Env) map[keyprovidertest.Fault]func(testing.TB) *keyprovider.Opened {
	on := func(change func(op kmip.Operation, answer []byte) []byte) func(testing.TB) *keyprovider.Opened {
		return faultyKMIP(s, spec, env, func(op kmip.Operation, answer []byte) []byte {
			if op == kmip.OperationDiscoverVersions {
				return answer
			}
			return change(op, answer)
		})
	}
	refuse := func(reason kmip.Reason) func(testing.TB) *keyprovider.Opened {
		return on(func(op kmip.Operation, _ []byte) []byte { return kmiptest.Refusal(op, reason) })
	}
	return map[keyprovidertest.Fault]func(testing.TB) *keyprovider.Opened{
		keyprovidertest.Down: opener(strings.Replace(spec, s.Address, nobody(t), 1), env),
		keyprovidertest.Slow: func(t testing.TB) *keyprovider.Opened {
			// A listener that takes connections and says nothing.
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			return opener(strings.Replace(spec, s.Address, l.Addr().String(), 1)+"&timeout=200ms", env)(t)
		},
		keyprovidertest.Garbage: on(func(kmip.Operation, []byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }),
		keyprovidertest.TooMuch: on(func(kmip.Operation, []byte) []byte {
			return append([]byte("\x42\x00\x7b\x01\x7f\xff\xff\xf8"), make([]byte, 100)...)
		}),
		keyprovidertest.Dying:    on(func(_ kmip.Operation, answer []byte) []byte { return nil }),
		keyprovidertest.NotReady: refuse(kmip.ReasonGeneralFailure),
		keyprovidertest.Refusing: refuse(kmip.ReasonPermissionDenied),
		keyprovidertest.Dropped:  refuse(kmip.ReasonItemNotFound),
		keyprovidertest.AnotherKey: on(func(op kmip.Operation, answer []byte) []byte {
			id := kmip.Text(kmip.TagUniqueIdentifier, "1")
			switch op {
			case kmip.OperationDecrypt:
				return kmiptest.Success(op, id, kmip.Bytes(kmip.TagData, fresh()))
			case kmip.OperationGet:
				value := kmip.Structure(kmip.TagKeyValue, kmip.Bytes(kmip.TagKeyMaterial, fresh()))
				return kmiptest.Success(op, id, kmip.Structure(kmip.TagSymmetricKey, kmip.Structure(kmip.TagKeyBlock, kmip.Enumeration(kmip.TagKeyFormatType, 1), value)))
			}
			return answer
		}),
	}
}

func TestKMIPSpecsAreReadStrictly(t *testing.T) {
	f := kmiptest.NewFiles(t)
	files := "ca=" + f.CA + "&cert=" + f.ClientCert + "&key=" + f.ClientKey
	for spec, want := range map[string]string{
		"kmip://h/1?" + files + "&use=both":                        "none of encrypt, get",
		"kmip://h/1":                                               "wants the options ca, cert and key",
		"kmip:h/1?" + files:                                        "want kmip://",
		"kmip://u:hunter2@h/1?" + files:                            "no user",
		"kmip://h/?" + files:                                       "identifier of a key",
		"kmip://h/a/b?" + files:                                    "a slash",
		"kmip://h/" + strings.Repeat("x", 60) + "?" + files:        "longer than",
		"kmip://h/1?older=a,b%20c&" + files:                        "a slash, comma or space",
		"kmip://h/1?password=hunter2&" + files:                     "does not stand in a spec",
		"kmip://h/1?timeout=-1s&" + files:                          "want a time",
		strings.Replace("kmip://h/1?"+files, f.CA, f.ClientKey, 1): "no certificate in PEM",
	} {
		p, err := keyprovider.OpenSpec(t.Context(), spec, environ(nil))
		if err == nil {
			p.Close()
			t.Errorf("OpenSpec(%q) opened", spec)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("OpenSpec(%q) = %v, want %q", spec, err, want)
		}
	}
}

func TestKMIPKeysAreFoundByName(t *testing.T) {
	f := kmiptest.NewFiles(t)
	s := kmiptest.Start(t, f)
	env := environ(nil)
	text := kmipSpec(s.Address, f, "assay", "")
	if _, err := keyprovider.Find(t.Context(), parseSpec(t, text), env); !errors.Is(err, keyprovider.ErrUnknownKey) {
		t.Errorf("Find before there is a key: %v", err)
	}
	made := create(t, text, env)
	found, err := keyprovider.Find(t.Context(), parseSpec(t, text), env)
	if err != nil || found.String() != made {
		t.Errorf("Find = %s, %v, want %s", found, err, made)
	}
	if _, err := keyprovider.Create(t.Context(), parseSpec(t, text), env); err == nil {
		t.Error("a key that there is was created")
	}
	if same, err := keyprovider.Find(t.Context(), found, env); err != nil || same.String() != made {
		t.Errorf("Find of a whole spec = %s, %v", same, err)
	}
}

// A server that has another key under the same identifier opens nothing.
func TestAKMIPKeyThatWasReplacedOpensNothing(t *testing.T) {
	f := kmiptest.NewFiles(t)
	s := kmiptest.Start(t, f)
	env := environ(nil)
	for _, use := range []string{"encrypt", "get"} {
		p := opener(create(t, kmipSpec(s.Address, f, "assay-"+use, "&use="+use), env), env)(t)
		defer p.Close()
		w, err := p.Wrap(t.Context(), seal.Context{}, seal.NewSecret(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		s.Rekey()
		if _, err := p.Unwrap(t.Context(), seal.Context{}, w); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: %v, want %v", use, err, seal.ErrOpen)
		}
	}
}

// Before version 1.4 nothing shows an altered ciphertext to the server: it decrypts to
// something of another length, which is no fault of the server.
func TestAnAlteredTextOfCBCDoesNotOpen(t *testing.T) {
	f := kmiptest.NewFiles(t)
	s := kmiptest.Start(t, f)
	s.Versions = []kmip.Version{{Major: 1, Minor: 3}}
	env := environ(nil)
	spec := create(t, kmipSpec(s.Address, f, "assay", ""), env)
	p := opener(spec, env)(t)
	defer p.Close()
	w, err := p.Wrap(t.Context(), seal.Context{}, seal.NewSecret(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	s.SetAnswer(func(op kmip.Operation, answer []byte) []byte {
		if op == kmip.OperationDecrypt {
			return kmiptest.Success(op, kmip.Text(kmip.TagUniqueIdentifier, "1"), kmip.Bytes(kmip.TagData, make([]byte, 31)))
		}
		return answer
	})
	if _, err := p.Unwrap(t.Context(), seal.Context{}, w); !errors.Is(err, seal.ErrOpen) || errors.Is(err, keyprovider.ErrGarbage) {
		t.Errorf("Unwrap = %v, want %v", err, seal.ErrOpen)
	}
}
