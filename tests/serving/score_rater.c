/* Scores with an exported rater from C, without Python.

   score_rater DIRECTORY text INPUT SCORE PERCENTILE TEXT...
   score_rater DIRECTORY tokens TOKENS MASK SCORE PERCENTILE ROWS COLUMNS ID...

   The capital names in the middle are those of operations, with the number of the output, such as
   serving_default_text:0; `saved_model_cli show --all --dir DIRECTORY` lists them. Prints a score
   and a percentile a line. TF_LoadSessionFromSavedModel is the loader that TensorFlow Serving
   embeds. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tensorflow/c/c_api.h>

static TF_Status* status;

static void check(const char* what) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s: %s\n", what, TF_Message(status));
    exit(1);
  }
}

static TF_Output find(TF_Graph* graph, const char* name) {
  char operation[256];
  const char* colon = strrchr(name, ':');
  TF_Output output;
  snprintf(operation, sizeof operation, "%.*s", (int)(colon - name), name);
  output.oper = TF_GraphOperationByName(graph, operation);
  output.index = atoi(colon + 1);
  if (output.oper == NULL) {
    fprintf(stderr, "no operation %s\n", operation);
    exit(1);
  }
  return output;
}

static TF_Tensor* strings(char** texts, int64_t count) {
  TF_Tensor* tensor = TF_AllocateTensor(TF_STRING, &count, 1, count * sizeof(TF_TString));
  TF_TString* elements = TF_TensorData(tensor);
  for (int64_t i = 0; i < count; ++i) {
    TF_StringInit(&elements[i]);
    TF_StringCopy(&elements[i], texts[i], strlen(texts[i]));
  }
  return tensor;
}

int main(int argc, char** argv) {
  const char* tags[] = {"serve"};
  int is_text = argc > 2 && strcmp(argv[2], "text") == 0;
  if (argc < (is_text ? 6 : 9)) {
    fprintf(stderr, "see the comment at the top of score_rater.c\n");
    return 2;
  }
  status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check("load");

  TF_Output inputs[2], outputs[2];
  TF_Tensor *values[2], *results[2];
  int64_t rows;
  char** names = argv + 3;
  int count = is_text ? 1 : 2;
  for (int i = 0; i < count; ++i) inputs[i] = find(graph, names[i]);
  for (int i = 0; i < 2; ++i) outputs[i] = find(graph, names[count + i]);
  if (is_text) {
    rows = argc - 6;
    values[0] = strings(argv + 6, rows);
  } else {
    int64_t shape[2] = {atoi(argv[7]), atoi(argv[8])}, one[2] = {1, 1};
    rows = shape[0];
    if (argc - 9 != rows * shape[1]) return 2;
    values[0] = TF_AllocateTensor(TF_INT32, shape, 2, rows * shape[1] * sizeof(int32_t));
    for (int64_t i = 0; i < rows * shape[1]; ++i)
      ((int32_t*)TF_TensorData(values[0]))[i] = atoi(argv[9 + i]);
    values[1] = TF_AllocateTensor(TF_BOOL, one, 2, 1); /* broadcasts */
    *(unsigned char*)TF_TensorData(values[1]) = 1;
  }
  TF_SessionRun(session, NULL, inputs, values, count, outputs, results, 2, NULL, 0, NULL, status);
  check("run");
  for (int64_t i = 0; i < rows; ++i)
    printf("%.9g %.9g\n", ((float*)TF_TensorData(results[0]))[i],
           ((float*)TF_TensorData(results[1]))[i]);
  TF_CloseSession(session, status);
  check("close");
  return 0;
}
