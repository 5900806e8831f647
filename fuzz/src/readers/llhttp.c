/* Has llhttp read bytes from memory and tells what it finds. Nothing of its types is known outside. */

#include <stddef.h>
#include "llhttp.h"

enum event { START, TARGET, HEAD, BODY, END };

typedef void (*tell)(void *context, enum event event, const char *at, size_t len);

struct reading {
  tell tell;
  void *context;
  int to_head;
};

static struct reading *of(llhttp_t *parser) { return parser->data; }

static int start(llhttp_t *parser, const char *at, size_t len) {
  of(parser)->tell(of(parser)->context, START, at, len);
  return 0;
}

static int target(llhttp_t *parser, const char *at, size_t len) {
  of(parser)->tell(of(parser)->context, TARGET, at, len);
  return 0;
}

static int body(llhttp_t *parser, const char *at, size_t len) {
  of(parser)->tell(of(parser)->context, BODY, at, len);
  return 0;
}

static int head(llhttp_t *parser) {
  char status[3];
  if (parser->type == HTTP_RESPONSE) {
    status[0] = '0' + parser->status_code / 100 % 10;
    status[1] = '0' + parser->status_code / 10 % 10;
    status[2] = '0' + parser->status_code % 10;
    of(parser)->tell(of(parser)->context, START, status, 3);
  }
  of(parser)->tell(of(parser)->context, HEAD, NULL, 0);
  return of(parser)->to_head;
}

/* Paused, so that it says how far it has come. */
static int end(llhttp_t *parser) { return HPE_PAUSED; }

/* 0: all is read. 1: refused. 2: another protocol begins. */
int steadfast_llhttp(const char *bytes, size_t len, int responses, int to_head, tell tell, void *context) {
  struct reading reading = {tell, context, to_head};
  llhttp_settings_t settings;
  llhttp_t parser;
  const char *at = bytes, *stop = bytes + len;
  llhttp_settings_init(&settings);
  settings.on_method = start;
  settings.on_url = target;
  settings.on_headers_complete = head;
  settings.on_body = body;
  settings.on_message_complete = end;
  llhttp_init(&parser, responses ? HTTP_RESPONSE : HTTP_REQUEST, &settings);
  parser.data = &reading;
  for (;;) {
    switch (llhttp_execute(&parser, at, stop - at)) {
      case HPE_OK:
        if (llhttp_message_needs_eof(&parser) && llhttp_finish(&parser) == HPE_PAUSED) tell(context, END, NULL, len);
        return 0;
      case HPE_PAUSED:
        at = llhttp_get_error_pos(&parser);
        tell(context, END, NULL, at - bytes);
        if (parser.upgrade) return 2;
        llhttp_resume(&parser);
        break;
      case HPE_PAUSED_UPGRADE:
        return 2;
      default:
        return 1;
    }
  }
}
