// What an exported model finds in a picture, with onnxruntime's C++ API alone.
//
//   g++ -std=c++17 -O2 -I $ORT/include panoptic.cpp -L $ORT/lib -lonnxruntime -Wl,-rpath,$ORT/lib -o panoptic
//   ./panoptic model.onnx picture.ppm map.pgm
//
// It prints a line for each segment, and writes the map of their ids. $ORT is onnxruntime, unpacked.
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> planes;  // R, G and B, one after the other
};

Picture read_ppm(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int most = 0;
  Picture p;
  file >> magic >> p.width >> p.height >> most;
  file.get();  // the one space before the pixels
  std::vector<char> pixels(3 * p.height * p.width);
  if (magic != "P6" || most != 255 || !file.read(pixels.data(), pixels.size()))
    throw std::runtime_error(std::string(path) + " is no PPM (P6) of eight bits.");
  for (int64_t channel = 0; channel < 3; channel++)
    for (int64_t n = channel; n < (int64_t)pixels.size(); n += 3) p.planes.push_back(pixels[n]);
  return p;
}

int main(int count, char** arguments) try {
  if (count != 4) throw std::runtime_error("usage: panoptic MODEL.onnx PICTURE.ppm MAP.pgm");
  Ort::Env environment;
  Ort::Session session(environment, arguments[1], Ort::SessionOptions());
  Picture picture = read_ppm(arguments[2]);
  const int64_t shape[] = {1, 3, picture.height, picture.width};
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto image = Ort::Value::CreateTensor<uint8_t>(memory, picture.planes.data(),
                                                 picture.planes.size(), shape, 4);
  const char* inputs[] = {"image"};
  const char* outputs[] = {"panoptic_seg", "segment_classes", "segment_scores", "segment_areas"};
  auto found = session.Run(Ort::RunOptions(), inputs, &image, 1, outputs, 4);
  const int32_t* ids = found[0].GetTensorData<int32_t>();
  const int64_t *classes = found[1].GetTensorData<int64_t>(), *areas = found[3].GetTensorData<int64_t>();
  const float* scores = found[2].GetTensorData<float>();
  const size_t rows = found[1].GetTensorTypeAndShapeInfo().GetElementCount();
  for (size_t n = 0; n < rows && classes[n] >= 0; n++)  // a class of -1 is behind the last
    std::cout << n + 1 << " class " << classes[n] << " score " << scores[n] << " pixels " << areas[n] << "\n";
  std::ofstream map(arguments[3], std::ios::binary);
  map << "P5\n" << picture.width << " " << picture.height << "\n255\n";
  for (int64_t n = 0; n < picture.height * picture.width; n++) map.put((char)ids[n]);
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 1;
}
