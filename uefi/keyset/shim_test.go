package keyset_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
)

func TestDebiansShimStartsUnderMicrosoftsKeysAndNoOthers(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(cache, "assay-test", "shimx64.efi.signed"))
	if err != nil {
		if os.Getenv("ASSAY_REQUIRE_BOOT_TOOLS") != "" {
			t.Fatal("shimx64.efi.signed is not there: run make setup")
		}
		t.Skip("shimx64.efi.signed is not there")
	}
	image, err := authenticode.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []keyset.Kind{keyset.Microsoft, keyset.MicrosoftAndOwn, keyset.Own} {
		s := newSet(t, keyset.Options{Kind: kind, Given: given(sigdb.PK, sigdb.KEK, sigdb.DB)})
		v, err := image.Verify(authenticode.NewKeys(s.Database(sigdb.DB), s.Database(sigdb.DBX)))
		if (v != nil) != (kind != keyset.Own) {
			t.Errorf("%s: Verify = %v, %v", kind, v, err)
		}
		for _, r := range evidence.Reasons(err) {
			if r.Code != "image.no-anchor" {
				t.Errorf("%s: %s: %s", kind, r.Code, r.Message)
			}
		}
	}
}
