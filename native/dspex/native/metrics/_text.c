/* What costs in comparing texts: normalising them, counting the words they share.

   The rules are those of normalising.py, passages.py and counting.py, which do the same
   where this file was not compiled; tests hold them against each other. Texts come from
   anybody: sizes are checked before they are multiplied, and no bucket of the table of
   words can be chosen by who writes them.

   Only the limited API of CPython 3.11 is used, so that one build serves all later
   ones. Nothing here releases the GIL, and what a Words holds never changes. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

/* ---- Normalising ASCII ---- */

enum { REFUSED = 0, DROPPED = 1, SPACE = ' ' };

/* What each byte becomes: itself in lower case, a space, nothing, or a refusal. */
static unsigned char becomes[256];

static void
fill_table(void)
{
    for (int code = 0; code < 256; code++) {
        int letter = (code >= 'a' && code <= 'z') || (code >= '0' && code <= '9');
        int space = (code >= '\t' && code <= '\r') || (code >= 0x1c && code <= ' ');
        if (code >= 'A' && code <= 'Z')
            becomes[code] = (unsigned char)(code - 'A' + 'a');
        else if (letter)
            becomes[code] = (unsigned char)code;
        else if (space)
            becomes[code] = SPACE;
        else if (code > ' ' && code < 0x7f)
            becomes[code] = DROPPED;
        else /* Words end at controls too, but controls stay: not here. */
            becomes[code] = REFUSED;
    }
}

static int
is_article(const unsigned char *word, size_t length)
{
    return (length == 1 && word[0] == 'a') ||
           (length == 2 && word[0] == 'a' && word[1] == 'n') ||
           (length == 3 && memcmp(word, "the", 3) == 0);
}

/* Write a text normalised and return its length; -1 if it is not one of ours.
   `out` has room for one byte more than the text has: the space behind the last word
   is written before it is taken back. */
static Py_ssize_t
clean(const unsigned char *text, size_t size, unsigned char *out)
{
    size_t written = 0, word = 0;

    for (size_t at = 0; at <= size; at++) {
        unsigned char next = at < size ? becomes[text[at]] : SPACE;
        if (next > SPACE)
            out[written++] = next;
        else if (next == DROPPED)
            continue;
        else if (next == REFUSED)
            return -1;
        else if (is_article(out + word, written - word))
            written = word;
        else if (written > word) {
            out[written++] = SPACE;
            word = written;
        }
    }
    return (Py_ssize_t)(written ? written - 1 : 0);
}

#define ON_STACK 1024

/* Return an ASCII text normalised; NULL without an exception if it is not one of ours. */
static PyObject *
normalize_ascii(const unsigned char *text, size_t size)
{
    unsigned char small[ON_STACK], *out = small;
    PyObject *found = NULL;

    if (size >= ON_STACK) {
        out = PyMem_Malloc(size + 1);
        if (out == NULL)
            return PyErr_NoMemory();
    }
    Py_ssize_t length = clean(text, size, out);
    if (length >= 0)
        found = PyUnicode_FromStringAndSize((const char *)out, length);
    if (out != small)
        PyMem_Free(out);
    return found;
}

/* ---- What each character becomes, learned from Python when it is first seen ---- */

enum { OTHER = 0, WORD = 1, BLANK = 2, NOTHING = 3 }; /* Two bits for each of `kinds`. */

#define MOST_BYTES 11
#define UNKNOWN 0
#define FOREIGN 0xff /* Of this one Python has to see to itself. */

/* A character decomposed and in lower case, as one to four characters in UTF-8. */
typedef struct {
    unsigned char size;   /* Bytes of that, or UNKNOWN, or FOREIGN. */
    unsigned char kinds;  /* What its characters are in a text, the first one lowest. */
    unsigned char tokens; /* What they are in a passage. */
    unsigned char first;  /* Canonical combining class of its first character, */
    unsigned char last;   /* and of its last. */
    unsigned char bytes[MOST_BYTES];
} Letter;

/* Those of the first four planes: no others but ideographs to come have letters. */
#define LETTERS 0x40000u
#define PAGE 256u

static Letter *pages[LETTERS / PAGE];
static PyObject *describe; /* Returns the attributes of a Letter, or None. */

/* Take in what Python says of a character. */
static int
take(Letter *letter, PyObject *said)
{
    const char *bytes;
    Py_ssize_t size;
    int kinds, tokens, first, last;

    if (said == Py_None) {
        letter->size = FOREIGN;
        return 0;
    }
    if (!PyTuple_Check(said)) {
        PyErr_SetString(PyExc_TypeError, "a tuple or None is needed");
        return -1;
    }
    if (!PyArg_ParseTuple(said, "y#iiii", &bytes, &size, &kinds, &tokens, &first, &last))
        return -1;
    if (size < 1 || size > MOST_BYTES) {
        PyErr_SetString(PyExc_ValueError, "a letter has 1 to 11 bytes");
        return -1;
    }
    memcpy(letter->bytes, bytes, (size_t)size);
    letter->kinds = (unsigned char)kinds;
    letter->tokens = (unsigned char)tokens;
    letter->first = (unsigned char)first;
    letter->last = (unsigned char)last;
    letter->size = (unsigned char)size;
    return 0;
}

static int
learn(Letter *letter, uint32_t code)
{
    PyObject *said = describe == NULL
                         ? Py_NewRef(Py_None)
                         : PyObject_CallFunction(describe, "I", (unsigned int)code);
    if (said == NULL)
        return -1;
    int taken = take(letter, said);
    Py_DECREF(said);
    return taken;
}

/* Return what is known of a character; NULL with an exception if that went wrong. */
static const Letter *
letter_of(uint32_t code)
{
    static const Letter foreign = {FOREIGN, 0, 0, 0, 0, {0}};

    if (code >= LETTERS)
        return &foreign;
    Letter **page = &pages[code / PAGE];
    if (*page == NULL) {
        *page = PyMem_Calloc(PAGE, sizeof **page);
        if (*page == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
    }
    Letter *letter = &(*page)[code % PAGE];
    if (letter->size == UNKNOWN && learn(letter, code) < 0)
        return NULL;
    return letter;
}

/* ---- Normalising any text ---- */

/* Return how many bytes a character has, by its first. Python's UTF-8 is sound. */
static size_t
width(unsigned char lead)
{
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

static uint32_t
code_at(const unsigned char *text, size_t bytes)
{
    static const unsigned char masks[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t code = text[0] & masks[bytes];

    for (size_t at = 1; at < bytes; at++)
        code = code << 6 | (text[at] & 0x3f);
    return code;
}

/* A text being written, one space between what stands apart. */
typedef struct {
    unsigned char *out;
    size_t length;
    size_t room;
    size_t word;  /* Where the word begins that is being written, */
    size_t apart; /* and where the space before it does. */
    int in_word;
    int blank; /* Something comes between what is there and what comes next. */
} Writer;

/* Make room for one more Letter with a space around each of its characters. */
static int
make_room(Writer *to)
{
    size_t needed = MOST_BYTES + 5;

    if (to->room - to->length >= needed)
        return 0;
    size_t room = to->room * 2 + needed;
    unsigned char *out = PyMem_Realloc(to->out, room);
    if (out == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    to->out = out;
    to->room = room;
    return 0;
}

static void
append(Writer *to, const unsigned char *bytes, size_t size)
{
    if (to->blank && to->length)
        to->out[to->length++] = SPACE;
    to->blank = 0;
    memcpy(to->out + to->length, bytes, size);
    to->length += size;
}

static void
end_word(Writer *to)
{
    if (to->in_word && is_article(to->out + to->word, to->length - to->word)) {
        to->length = to->apart;
        to->blank = 1;
    }
    to->in_word = 0;
}

/* Write one character of a text: words end where a letter or digit does not follow, and
   articles are words. */
static void
write_normal(Writer *to, unsigned kind, const unsigned char *bytes, size_t size)
{
    if (kind == NOTHING)
        return;
    if (kind != WORD) {
        end_word(to);
        if (kind == BLANK)
            to->blank = 1;
        else
            append(to, bytes, size);
        return;
    }
    if (to->in_word) {
        append(to, bytes, size);
        return;
    }
    to->in_word = 1;
    to->apart = to->length;
    to->word = to->length + (to->blank && to->length);
    append(to, bytes, size);
}

/* Write one character of a passage: what is no part of a word stands alone. */
static void
write_token(Writer *to, unsigned kind, const unsigned char *bytes, size_t size)
{
    if (kind == BLANK) {
        to->blank = 1;
        return;
    }
    to->blank |= kind == OTHER;
    append(to, bytes, size);
    to->blank = kind == OTHER;
}

/* Write an ASCII character of a text. */
static void
write_ascii(Writer *to, const unsigned char *byte)
{
    const unsigned char *lower = &becomes[*byte];

    if (*lower > SPACE)
        write_normal(to, WORD, lower, 1);
    else if (*lower == SPACE)
        write_normal(to, BLANK, lower, 1);
    else if (*lower == REFUSED)
        write_normal(to, OTHER, byte, 1);
}

/* Write a text; 1 if all is written, 0 if it is not one of ours, -1 on an exception. */
static int
write_all(Writer *to, const unsigned char *text, size_t size, int passage)
{
    unsigned previous = 0;

    for (size_t at = 0; at < size;) {
        if (make_room(to) < 0)
            return -1;
        if (text[at] < 0x80 && !passage) {
            write_ascii(to, text + at++);
            previous = 0;
            continue;
        }
        size_t bytes = width(text[at]);
        const Letter *letter = letter_of(code_at(text + at, bytes));
        if (letter == NULL)
            return -1;
        /* Marks in another order than NFD has them in would have to change places. */
        if (letter->size == FOREIGN || (letter->first && previous > letter->first))
            return 0;
        previous = letter->last;
        unsigned kinds = passage ? letter->tokens : letter->kinds;
        for (size_t part = 0; part < letter->size; kinds >>= 2) {
            size_t of = width(letter->bytes[part]);
            (passage ? write_token : write_normal)(to, kinds & 3, letter->bytes + part,
                                                   of);
            part += of;
        }
        at += bytes;
    }
    end_word(to);
    return 1;
}

static PyObject *
written(const unsigned char *text, size_t size, int passage)
{
    Writer to = {.room = size + size / 2 + 64};
    PyObject *found = NULL;

    to.out = PyMem_Malloc(to.room);
    if (to.out == NULL)
        return PyErr_NoMemory();
    int done = write_all(&to, text, size, passage);
    if (done > 0)
        found = PyUnicode_FromStringAndSize((const char *)to.out,
                                            (Py_ssize_t)to.length);
    else if (done == 0)
        found = Py_NewRef(Py_None);
    PyMem_Free(to.out);
    return found;
}

/* Return the UTF-8 of a text; NULL if there is none, with an exception if it is worse
   than that: lone surrogates are left to Python. */
static const unsigned char *
utf8_of(PyObject *text, size_t *size)
{
    Py_ssize_t length;

    if (!PyUnicode_Check(text)) {
        PyErr_SetString(PyExc_TypeError, "a text is needed");
        return NULL;
    }
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &length);
    if (bytes == NULL) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            PyErr_Clear();
        return NULL;
    }
    *size = (size_t)length;
    return (const unsigned char *)bytes;
}

static PyObject *
none_unless_failed(void)
{
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *
normalize(PyObject *module, PyObject *text)
{
    size_t size;
    const unsigned char *bytes = utf8_of(text, &size);
    (void)module;

    if (bytes == NULL)
        return none_unless_failed();
    PyObject *found = normalize_ascii(bytes, size);
    if (found != NULL || PyErr_Occurred())
        return found;
    return written(bytes, size, 0);
}

static PyObject *
tokens(PyObject *module, PyObject *normal)
{
    size_t size;
    const unsigned char *bytes = utf8_of(normal, &size);
    (void)module;

    return bytes == NULL ? none_unless_failed() : written(bytes, size, 1);
}

static PyObject *
learn_from(PyObject *module, PyObject *function)
{
    PyObject *before = describe;
    (void)module;

    describe = Py_NewRef(function);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

/* ---- SipHash-1-3, as Python hashes its texts: nobody can choose collisions ---- */

static uint64_t key[2];

#define ROTATED(value, bits) (((value) << (bits)) | ((value) >> (64 - (bits))))
#define ROUND                                                                          \
    do {                                                                               \
        a += b, b = ROTATED(b, 13) ^ a, a = ROTATED(a, 32);                            \
        c += d, d = ROTATED(d, 16) ^ c;                                                \
        a += d, d = ROTATED(d, 21) ^ a;                                                \
        c += b, b = ROTATED(b, 17) ^ c, c = ROTATED(c, 32);                            \
    } while (0)

static uint64_t
hashed(const unsigned char *word, size_t length)
{
    uint64_t a = key[0] ^ 0x736f6d6570736575u, b = key[1] ^ 0x646f72616e646f6du;
    uint64_t c = key[0] ^ 0x6c7967656e657261u, d = key[1] ^ 0x7465646279746573u;
    uint64_t last = (uint64_t)length << 56, part;

    for (; length >= 8; word += 8, length -= 8) {
        memcpy(&part, word, 8);
        d ^= part;
        ROUND;
        a ^= part;
    }
    for (size_t at = 0; at < length; at++)
        last |= (uint64_t)word[at] << (8 * at);
    d ^= last;
    ROUND;
    a ^= last;
    c ^= 0xff;
    ROUND;
    ROUND;
    ROUND;
    return a ^ b ^ c ^ d;
}

/* Take the key from Python's own, which is random unless PYTHONHASHSEED says else. */
static int
take_key(void)
{
    static const char *const texts[2] = {"dspex words 0", "dspex words 1"};

    for (int part = 0; part < 2; part++) {
        PyObject *text = PyUnicode_FromString(texts[part]);
        if (text == NULL)
            return -1;
        Py_hash_t found = PyObject_Hash(text);
        Py_DECREF(text);
        if (found == -1)
            return -1;
        key[part] = (uint64_t)found;
    }
    return 0;
}

/* ---- The words of a normalised text, counted ---- */

typedef struct {
    uint32_t hash;
    uint32_t start;
    uint32_t length;
    uint32_t times;
} Word;

typedef struct {
    PyObject_HEAD
    PyObject *owner; /* The text or its bytes, which `text` points into. */
    const unsigned char *text;
    uint32_t count;    /* Words in all. */
    uint32_t distinct; /* Different ones. */
    uint32_t mask;     /* Buckets less one; there are twice as many as words. */
    uint32_t *buckets; /* The number of a word, from 1; 0 where there is none. */
    Word *words;
} Words;

/* Positions and twice the number of words fit into 32 bits. */
#define LONGEST (UINT32_MAX / 4)

/* Return the bytes of a text and, in `owner`, a reference to what holds them. */
static const unsigned char *
bytes_of(PyObject *text, size_t *size, PyObject **owner)
{
    Py_ssize_t length;
    char *found = (char *)PyUnicode_AsUTF8AndSize(text, &length);

    if (found != NULL)
        *owner = Py_NewRef(text);
    else {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return NULL;
        PyErr_Clear();
        *owner = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
        if (*owner == NULL)
            return NULL;
        if (PyBytes_AsStringAndSize(*owner, &found, &length) < 0) {
            Py_CLEAR(*owner);
            return NULL;
        }
    }
    if ((size_t)length > LONGEST) {
        PyErr_SetString(PyExc_OverflowError, "the text is too long");
        Py_CLEAR(*owner);
        return NULL;
    }
    *size = (size_t)length;
    return (const unsigned char *)found;
}

/* Return the length of the word that begins at `start`, which may be the end. */
static size_t
length_at(const unsigned char *text, size_t size, size_t start)
{
    const unsigned char *end = memchr(text + start, SPACE, size - start);

    return end == NULL ? size - start : (size_t)(end - text) - start;
}

/* Return the bucket of a word: where it is, or the empty one where it would be. */
static uint32_t
bucket_of(const Words *self, const unsigned char *word, uint32_t length, uint32_t hash)
{
    uint32_t bucket = hash & self->mask;

    /* Half of the buckets are empty, so this ends. */
    while (self->buckets[bucket]) {
        const Word *there = &self->words[self->buckets[bucket] - 1];
        if (there->hash == hash && there->length == length &&
            memcmp(self->text + there->start, word, length) == 0)
            break;
        bucket = (bucket + 1) & self->mask;
    }
    return bucket;
}

static void
count_words(Words *self, size_t size)
{
    for (size_t start = 0; start < size;) {
        const unsigned char *word = self->text + start;
        uint32_t length = (uint32_t)length_at(self->text, size, start);
        uint32_t hash = (uint32_t)hashed(word, length);
        uint32_t *bucket = &self->buckets[bucket_of(self, word, length, hash)];
        if (*bucket)
            self->words[*bucket - 1].times++;
        else {
            self->words[self->distinct] = (Word){hash, (uint32_t)start, length, 1};
            *bucket = ++self->distinct;
        }
        self->count++;
        start += length + (size_t)1;
    }
}

static int
fill(Words *self, PyObject *text)
{
    size_t size, words = 0, buckets = 2;

    self->text = bytes_of(text, &size, &self->owner);
    if (self->text == NULL)
        return -1;
    for (size_t start = 0; start < size; words++)
        start += length_at(self->text, size, start) + 1;
    while (buckets < 2 * words)
        buckets *= 2;
    self->buckets = PyMem_Calloc(buckets, sizeof *self->buckets);
    self->words = PyMem_Calloc(words ? words : 1, sizeof *self->words);
    if (self->buckets == NULL || self->words == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->mask = (uint32_t)(buckets - 1);
    count_words(self, size);
    return 0;
}

static PyObject *
words_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *text;

    if (keywords != NULL && PyDict_Size(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError, "Words() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "U:Words", &text))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Words *self = (Words *)allocate(type, 0);
    if (self != NULL && fill(self, text) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void
words_dealloc(PyObject *object)
{
    Words *self = (Words *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyMem_Free(self->buckets);
    PyMem_Free(self->words);
    Py_XDECREF(self->owner);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* Return how many words two texts have in common, both counted: it takes as long as
   the one with fewer words is. */
static uint32_t
in_both(const Words *self, const Words *other)
{
    uint32_t same = 0;

    if (self->distinct > other->distinct) {
        const Words *longer = self;
        self = other;
        other = longer;
    }
    for (uint32_t at = 0; at < self->distinct; at++) {
        const Word *word = &self->words[at];
        uint32_t bucket = bucket_of(other, self->text + word->start, word->length,
                                    word->hash);
        uint32_t number = other->buckets[bucket];
        if (number) {
            uint32_t times = other->words[number - 1].times;
            same += times < word->times ? times : word->times;
        }
    }
    return same;
}

/* Return how many words a text has in common with `self`, and in `count` how many it
   has. `seen` says how often each word of `self` was there already: all zeros. */
static uint32_t
in_common(const Words *self, const unsigned char *text, size_t size, uint32_t *seen,
          uint32_t *count)
{
    uint32_t same = 0;

    *count = 0;
    for (size_t start = 0; start < size; ++*count) {
        uint32_t length = (uint32_t)length_at(text, size, start);
        uint32_t hash = (uint32_t)hashed(text + start, length);
        uint32_t number = self->buckets[bucket_of(self, text + start, length, hash)];
        if (number && seen[number - 1] < self->words[number - 1].times) {
            seen[number - 1]++;
            same++;
        }
        start += length + (size_t)1;
    }
    return same;
}

static PyObject *
scores(uint32_t same, uint32_t count, uint32_t wanted)
{
    double score[3] = {0.0, 0.0, 0.0};

    if (same) {
        double precision = (double)same / count, recall = (double)same / wanted;
        score[0] = (2 * precision * recall) / (precision + recall);
        score[1] = precision;
        score[2] = recall;
    }
    PyObject *found = PyTuple_New(3);
    for (int at = 0; found != NULL && at < 3; at++) {
        PyObject *one = PyFloat_FromDouble(score[at]);
        if (one == NULL || PyTuple_SetItem(found, at, one) < 0)
            Py_CLEAR(found);
    }
    return found;
}

#define FEW 256

static PyObject *
overlap_with_text(const Words *self, PyObject *text)
{
    uint32_t few[FEW], *seen = few, same, count;
    PyObject *owner = NULL;
    size_t size;

    const unsigned char *bytes = bytes_of(text, &size, &owner);
    if (bytes == NULL)
        return NULL;
    if (self->distinct <= FEW)
        memset(few, 0, self->distinct * sizeof *few);
    else {
        seen = PyMem_Calloc(self->distinct, sizeof *seen);
        if (seen == NULL) {
            Py_DECREF(owner);
            return PyErr_NoMemory();
        }
    }
    same = in_common(self, bytes, size, seen, &count);
    if (seen != few)
        PyMem_Free(seen);
    Py_DECREF(owner);
    return scores(same, count, self->count);
}

static PyObject *
words_overlap(PyObject *object, PyObject *prediction)
{
    const Words *self = (const Words *)object;

    if (PyUnicode_Check(prediction))
        return overlap_with_text(self, prediction);
    if (Py_IS_TYPE(prediction, Py_TYPE(object))) { /* It has no subclasses. */
        const Words *other = (const Words *)prediction;
        return scores(in_both(self, other), other->count, self->count);
    }
    PyErr_SetString(PyExc_TypeError, "a text or its Words are needed");
    return NULL;
}

/* ---- What Python sees; _text.pyi says what each thing does ---- */

static PyMethodDef words_methods[] = {
    {"overlap", words_overlap, METH_O, "Return F1, precision and recall of a text."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot words_slots[] = {
    {Py_tp_doc, "The words of a normalised text, counted."},
    {Py_tp_new, words_new},
    {Py_tp_dealloc, words_dealloc},
    {Py_tp_methods, words_methods},
    {0, NULL},
};

static PyType_Spec words_spec = {
    .name = "dspex.native.metrics._text.Words",
    .basicsize = sizeof(Words),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = words_slots,
};

static int
prepare(PyObject *module)
{
    fill_table();
    if (take_key() < 0)
        return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &words_spec, NULL);
    if (type == NULL)
        return -1;
    int added = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return added;
}

static PyMethodDef functions[] = {
    {"normalize", normalize, METH_O, "Return a text normalised, or None."},
    {"tokens", tokens, METH_O, "Return the tokens of a normalised text, or None."},
    {"learn_from", learn_from, METH_O, "Say who knows what characters become."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, prepare},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_text",
    .m_doc = "The words of texts, compiled.",
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__text(void)
{
    return PyModuleDef_Init(&definition);
}
