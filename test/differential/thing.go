package differential

import (
	"bytes"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
)

// A thing is what a handle names, in both TPMs.
type thing struct {
	handle    tpm2.Handle
	auth      []byte
	policy    *recipe // of authPolicy; nil for none
	mixed     bool    // its Name or content differs between the two
	sequence  tpm2.Alg
	nv        tpm2.NVPublic
	hash      tpm2.Alg    // of a session
	count     uint16      // what TPM2_Commit returned
	blob      *blob       // that it was loaded from
	hierarchy tpm2.Handle // of a primary object, and of what was made below it
	creation  [2]command.CreatePrimaryOut

	publicOnly bool
	sealed     bool // data that a caller gave
	side       [2]known
}

// known is what a caller knows of the thing in one TPM.
type known struct {
	name    []byte
	public  *tpm2.Public
	session *client.Session
}

func (t *thing) entity(i int) client.Entity {
	return client.Entity{Handle: t.handle, Name: t.side[i].name, Auth: t.auth}
}

// public is the public area of an object, which differs in its unique value alone.
func (t *thing) public() *tpm2.Public {
	if t.side[0].public == nil {
		return &tpm2.Public{}
	}
	return t.side[0].public
}

func (t *thing) attr(a tpm2.ObjectAttributes) bool { return t.public().Attributes.Has(a) }

// named takes over public areas and Names.
func (t *thing) named(public [2]*tpm2.Public) {
	for i := range t.side {
		t.side[i].public = public[i]
		t.side[i].name, _ = public[i].Name() // an object without nameAlg has none
		if t.side[i].name == nil {
			t.side[i].name = []byte{}
		}
	}
	t.mixed = !bytes.Equal(t.side[0].name, t.side[1].name)
}

// A blob is an object that was made and is not loaded.
type blob struct {
	parent  *thing
	auth    []byte
	policy  *recipe
	private [2][]byte
	public  [2]tpm2.Public
	sealed  bool
}

// A saved context.
type saved struct {
	of      *thing
	context [2]tpm2.Context
	session bool
}

// A ticket or signature that a later command can use.
type signed struct {
	key       *thing
	digest    []byte
	signature [2]tpm2.Signature
}
