package evidence

// httpapiCodes are those of the HTTP interface: credentials, requests, limits.
var httpapiCodes = []CodeInfo{
	{
		Code:    "access.no-credential",
		Meaning: "The request carries no credential.",
		Causes:  []string{"the client sends no API token and shows no client certificate"},
		Action:  "Send Authorization: Bearer with an API token of a principal.",
	},
	{
		Code:    "access.credential-refused",
		Meaning: "The credential is unknown, malformed, expired or revoked.",
		Causes:  []string{"the token was cut when it was copied", "the principal was removed or has expired", "the token belongs to another service"},
		Action:  "Have an administrator add the principal again; the new token is shown once.",
	},
	{
		Code:    "access.denied",
		Meaning: "The principal is known but lacks the permission that this needs.",
		Causes:  []string{"its role is for other work"},
		Action:  "Use a principal with the permission that the answer names; the attempt is in the audit chain.",
	},
	{
		Code:    "access.cross-origin",
		Meaning: "A web page of another origin made the browser send this request.",
		Causes:  []string{"a page tries to use the client certificate of whoever looks at it"},
		Action:  "Do not send API requests from pages of other origins.",
	},
	{
		Code:    "request.malformed",
		Meaning: "The request cannot be read.",
		Causes:  []string{"the body is not JSON, has a member twice, or lacks one", "the body was cut on the way"},
		Action:  "Send what docs/openapi.json describes.",
	},
	{
		Code:    "request.invalid",
		Meaning: "The request can be read, but a value in it is not acceptable.",
		Causes:  []string{"a member is missing or unknown", "a value is outside its limits"},
		Action:  "Correct the members that the answer lists.",
	},
	{
		Code:    "request.too-large",
		Meaning: "The body of the request is larger than this route takes.",
		Causes:  []string{"a log or list is larger than any machine makes", "the wrong file was sent"},
		Action:  "Send less; the answer names the limit.",
	},
	{
		Code:    "request.timeout",
		Meaning: "The body of the request did not arrive in time.",
		Causes:  []string{"the network is slow or broken", "the client stopped sending"},
		Action:  "Send the request again.",
	},
	{
		Code:    "request.media-type",
		Meaning: "The body is sent as, or the answer is asked for in, a form that this route does not know.",
		Causes:  []string{"the client sets no Content-Type: application/json"},
		Action:  "Send and accept application/json.",
	},
	{
		Code:    "request.no-route",
		Meaning: "The path does not exist.",
		Causes:  []string{"the URL is misspelt", "the client is for another version of the service"},
		Action:  "Look at /openapi.json, which lists all paths.",
	},
	{
		Code:    "request.method",
		Meaning: "The path exists but does not know this method.",
		Causes:  []string{"the client uses POST for PUT or the like"},
		Action:  "Use a method that the Allow field of the answer lists.",
	},
	{
		Code:    "request.not-found",
		Meaning: "There is nothing of that name or id.",
		Causes:  []string{"the name is misspelt", "it was removed", "an enrolment has expired or is finished"},
		Action:  "List what there is.",
	},
	{
		Code:    "limit.rate",
		Meaning: "The caller sends requests faster than its limit.",
		Causes:  []string{"a client retries without waiting", "many machines share one credential or one address"},
		Action:  "Wait as long as Retry-After says; give machines principals of their own, or raise the limit.",
	},
	{
		Code:    "limit.concurrency",
		Meaning: "The caller has too many requests under way at once.",
		Causes:  []string{"a client opens requests without waiting for answers"},
		Action:  "Wait as long as Retry-After says, and send fewer at once.",
	},
	{
		Code:    "limit.memory",
		Meaning: "The caller's requests under way hold as much memory as one caller may.",
		Causes:  []string{"a client sends many large requests at once", "many machines share one credential or one address"},
		Action:  "Wait as long as Retry-After says, and send fewer at once; give machines principals of their own.",
	},
	{
		Code:    "service.overloaded",
		Meaning: "The service has more work than it can do now; nothing was changed.",
		Causes:  []string{"all machines attest at once, as after a power failure", "the disk is slow"},
		Action:  "Send the request again after as long as Retry-After says; if this lasts, look at the metrics for what is full.",
	},
	{
		Code:    "service.unavailable",
		Meaning: "The service cannot do its job now.",
		Causes:  []string{"its database does not answer", "it is stopping", "it has no key to sign with"},
		Action:  "Look at the log of the service; send the request again later.",
	},
	{
		Code:    "service.internal",
		Meaning: "The service failed to carry out a sound request.",
		Causes:  []string{"a fault of the service or of what it runs on"},
		Action:  "Look for the request id in the log of the service.",
	},
}
