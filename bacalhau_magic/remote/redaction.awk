# Prints the rules by which sed takes the values of a job's secrets out of its output: `BM_SECRETS="A B" awk -f redaction.awk`.
# POSIX awk in the C locale. The forms are those of redaction.py but for Python's repr and JSON's \u; a value of several
# lines goes by its longer ones.

function add(form, shortest) {
  if (length(form) >= (shortest ? shortest : 6) && index(form, "\n") == 0 && !(form in known)) { known[form] = 1; forms[++count] = form }
}

function percent(text, safe, digits,    at, char, made) {
  made = ""
  for (at = 1; at <= length(text); at++) {
    char = substr(text, at, 1)
    made = made (char ~ /[A-Za-z0-9._~-]/ || index(safe, char) ? char : sprintf(digits, ord[char]))
  }
  return made
}

function quoted(text,    number, made) {
  for (number = 1; number <= 4; number++) {
    made = percent(text, safe[number], "%%%02X"); add(made); gsub(/%20/, "+", made); add(made)
    made = percent(text, safe[number], "%%%02x"); add(made); gsub(/%20/, "+", made); add(made)
  }
}

function escaped(text,    at, char, made) {
  made = ""
  for (at = 1; at <= length(text); at++) {
    char = substr(text, at, 1)
    made = made (char in short ? short[char] : ord[char] < 32 ? sprintf("\\u%04x", ord[char]) : char)
  }
  return made
}

function html(text) {
  gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text); gsub(/"/, "\\&quot;", text)
  add(text); gsub(/'/, "\\&#x27;", text); add(text); gsub(/&#x27;/, "\\&#39;", text); add(text)
}

function digits(text,    at, made) {
  made = ""
  for (at = 1; at <= length(text); at++) made = made sprintf("%02x", ord[substr(text, at, 1)])
  add(made); add(toupper(made))
}

# Base64 of `before` zero bytes and the text.
function base64(text, before,    at, total, bits, held, byte, made) {
  made = ""; bits = 0; held = 0; total = before + length(text)
  for (at = 1; at <= total; at++) {
    byte = at <= before ? 0 : ord[substr(text, at - before, 1)]
    held = held * 256 + byte; bits += 8
    while (bits >= 6) { bits -= 6; made = made substr(letters, int(held / power[bits]) + 1, 1); held %= power[bits] }
  }
  if (bits) made = made substr(letters, held * power[6 - bits] + 1, 1)
  while (length(made) % 4) made = made "="
  return made
}

function coded(text,    before, made, from, to) {
  for (before = -1; before < 3; before++) {
    if (before < 0) made = base64(text, 0)
    else {
      from = int((8 * before + 5) / 6); to = int(8 * (before + length(text)) / 6)
      made = substr(base64(text, before), from + 1, to - from)
    }
    add(made); gsub(/\+/, "-", made); gsub(/\//, "_", made); add(made)
  }
}

function learn(text) { add(text, 4); add(escaped(text)); html(text); quoted(text); digits(text); coded(text) }

function rule(text,    at, char, made) {
  made = ""
  for (at = 1; at <= length(text); at++) {
    char = substr(text, at, 1)
    made = made (index("\\/.*[]^$", char) ? "\\" : "") char
  }
  return made
}

BEGIN {
  mark = "\342\200\242\342\200\242\342\200\242\342\200\242"
  letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  for (byte = 1; byte < 256; byte++) ord[sprintf("%c", byte)] = byte
  for (byte = power[0] = 1; byte <= 8; byte++) power[byte] = 2 * power[byte - 1]
  safe[1] = ""; safe[2] = "/"; safe[3] = "!*'()"; safe[4] = "!*'();/?:@&=+$,#"
  short["\""] = "\\\""; short["\\"] = "\\\\"; short["\n"] = "\\n"; short["\r"] = "\\r"; short["\t"] = "\\t"
  short["\b"] = "\\b"; short["\f"] = "\\f"
  names = split(ENVIRON["BM_SECRETS"], name, " ")
  for (one = 1; one <= names; one++) {
    value = ENVIRON[name[one]] ""
    learn(value); bare = value; gsub(/^[ \t\r\n]+|[ \t\r\n]+$/, "", bare); learn(bare)
    lines = split(value, line, "\n")
    for (at = 1; lines > 1 && at <= lines; at++) { sub(/\r$/, "", line[at]); if (length(line[at]) >= 12) learn(line[at]) }
  }
  for (one = 2; one <= count; one++) {
    form = forms[one]
    for (at = one; at > 1 && length(forms[at - 1]) < length(form); at--) forms[at] = forms[at - 1]
    forms[at] = form
  }
  for (one = 1; one <= count; one++) print "s/" rule(forms[one]) "/" mark "/g"
  print "s/\\(" mark "\\)\\(" mark "\\)*/" mark "/g"
}
