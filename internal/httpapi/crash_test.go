package httpapi

func childMain() bool { return false }
