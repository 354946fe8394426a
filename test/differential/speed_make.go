package differential

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// do runs a command with empty passwords. It returns the handle of the response.
func (s *Served) do(cc tpm2.CC, in, out wire.Layout, handles ...tpm2.Handle) (tpm2.Handle, error) {
	c := &client.Command{Code: cc, In: in, Out: out}
	for _, h := range handles {
		c.Handles = append(c.Handles, client.Entity{Handle: h})
	}
	return s.tpm.Run(c)
}

// A key is a loaded object.
type key struct {
	tpm2.Handle
	command.CreatePrimaryOut
}

// primary makes and loads a primary object of the owner hierarchy.
func (s *Served) primary(t command.CreateIn) (key, error) {
	in := command.CreatePrimaryIn(t)
	var k key
	h, err := s.do(tpm2.CCCreatePrimary, &in, &k.CreatePrimaryOut, tpm2.HandleOwner)
	k.Handle = h
	return k, err
}

// withKey is a row about one key.
func withKey(t command.CreateIn, of func(*Served, key) (work, error)) func(*Served) (work, error) {
	return func(s *Served) (work, error) {
		k, err := s.primary(t)
		if err != nil {
			return work{}, err
		}
		return of(s, k)
	}
}

// keyOnly is a row of a command about one key and nothing else.
func keyOnly(t command.CreateIn, cc tpm2.CC, in wire.Layout) func(*Served) (work, error) {
	return withKey(t, func(_ *Served, k key) (work, error) { return always(cc, in, k.Handle) })
}

// A turn makes a command of the response to the one before it.
type turn func(before []byte) ([]byte, error)

// inTurn sends several commands, one after the other, again and again. What is
// measured is the mean of them.
func inTurn(turns ...turn) work {
	var last []byte
	return work{
		request: func(i int) ([]byte, error) { return turns[i%len(turns)](last) },
		after: func(_ *Served, response []byte) error {
			last = append(last[:0], response...)
			return nil
		},
	}
}

// sameTurn is a turn with the same command each time.
func sameTurn(cc tpm2.CC, in wire.Layout, handles ...tpm2.Handle) turn {
	b, err := encode(cc, in, handles...)
	return func([]byte) ([]byte, error) { return b, err }
}

// plainCommand is a command without authorizations of parameters that are encoded already.
func plainCommand(cc tpm2.CC, params []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TagNoSessions))
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(params)))
	b = binary.BigEndian.AppendUint32(b, uint32(cc))
	return append(b, params...)
}

// handleIn is the handle in a response.
func handleIn(response []byte) tpm2.Handle {
	return tpm2.Handle(binary.BigEndian.Uint32(response[10:]))
}

// flushTurn is TPM2_FlushContext of what the command before has loaded.
func flushTurn(before []byte) ([]byte, error) {
	return plainCommand(tpm2.CCFlushContext, before[10:14]), nil
}

func symmetricKey(attr tpm2.ObjectAttributes, sym tpm2.SymDefObject) command.CreateIn {
	p := tpm2.Public{Type: tpm2.AlgSymCipher, NameAlg: tpm2.AlgSHA256, Attributes: keyAttributes | attr}
	p.Parameters.SymCipher = sym
	return command.CreateIn{InPublic: p}
}

func macKey() command.CreateIn {
	p := tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Attributes: keyAttributes | tpm2.AttrSign}
	p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: tpm2.AlgSHA256}
	return command.CreateIn{InPublic: p}
}

func eccDecrypter() command.CreateIn {
	return eccKey(tpm2.AttrDecrypt, none(), tpm2.ECCScheme{Scheme: tpm2.AlgNull})
}

func rsaDecrypter() command.CreateIn {
	return rsaKey(tpm2.AttrDecrypt, none(), tpm2.RSAScheme{Scheme: tpm2.AlgNull})
}

func asKeySays() tpm2.SigScheme { return tpm2.SigScheme{Scheme: tpm2.AlgNull} }
